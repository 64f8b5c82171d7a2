package browser_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/rs/zerolog"

	"rollcall/internal/app"
	"rollcall/internal/devkit"
	"rollcall/internal/devkit/devkittest"
	"rollcall/internal/faulttest"
)

// join runs a replica with one service until the test ends.
func join(t *testing.T, broker, name, service string) (url string) {
	t.Helper()
	addr := fmt.Sprintf("127.0.0.1:%d", faulttest.FreePort(t))
	cfg, err := app.LoadRun([]string{
		"NATS_URL=" + broker, "ROLLCALL_POOL=mail", "ROLLCALL_SERVICES=billing=" + service, "ROLLCALL_HTTP_ADDR=" + addr, "ROLLCALL_DRAIN_TIMEOUT=1s",
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := app.Run(ctx, cfg, zerolog.Nop(), app.Options{Replica: name, Version: "v1.2.3"}); err != nil {
			t.Logf("%s ended with %v", name, err)
		}
	}()
	t.Cleanup(func() { stop(); <-ended })
	return "http://" + addr + "/"
}

// TestARealReplicaLosesItsBroker: one alert, the last numbers with their time, nothing green
// that nobody can know.
func TestARealReplicaLosesItsBroker(t *testing.T) {
	t.Parallel()
	broker := devkittest.Start(t, devkit.Options{Dir: t.TempDir()})
	service := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(service.Close)
	url := join(t, broker.URL(), "one", service.URL)
	join(t, broker.URL(), "two", service.URL)
	faulttest.Until(t, limit, "the replica is ready", func() bool {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"readyz", nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
		if err != nil {
			return false
		}
		response.Body.Close()
		return response.StatusCode == http.StatusOK
	})
	o := open(t, url, 1280)
	o.until("both replicas are there", `document.querySelectorAll("#replicas tbody tr").length === 2 && document.querySelectorAll("#replicas .pill.good").length >= 2 && document.querySelector("#streams tbody tr") !== null`)
	before := eval[string](o, `document.querySelector("#pool-head time").textContent`)

	broker.Shutdown()
	o.until("the page misses the broker", `document.querySelector("#pool-head .stale") !== null && document.title.startsWith("No connection to NATS")`)
	alerts := eval[[]string](o, `[...document.querySelectorAll("[role=alert]")].map(a => a.innerText).filter(a => a !== "")`)
	if len(alerts) != 1 {
		t.Errorf("%d alerts for one cause: %q", len(alerts), alerts)
	}
	if got := eval[string](o, `document.querySelector("#pool-head time").textContent`); got < before {
		t.Errorf("the numbers are as of %s, want %s or later", got, before)
	}
	if n := eval[int](o, `document.querySelectorAll("#cards > div").length`); n != 6 {
		t.Errorf("%d cards, want the same 6 as before", n)
	}
	o.until("nothing is shown as well that nobody can know", `document.querySelectorAll("#where .pill.good, #replicas > table > tbody > tr > td > .pill.good").length === 0`)
	if got := o.text("#process"); !contains(got, "Consumer", "unknown") {
		t.Errorf("the checks are %q", got)
	}
}
