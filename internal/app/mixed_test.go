package app_test

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"rollcall/internal/devkit"
	"rollcall/internal/devkit/devkittest"
	"rollcall/internal/faulttest"
	"rollcall/internal/web"
)

// page returns the text at a path.
func (m member) page(path string) string {
	m.t.Helper()
	r, err := http.NewRequestWithContext(m.t.Context(), http.MethodGet, "http://"+m.addr+path, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
	if err != nil {
		return ""
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return ""
	}
	return string(text)
}

// mixes names the settings in which the replicas differ, as a replica sees it.
func mixes(s web.Status) (names []string) {
	for _, d := range s.Peers.Mixed {
		names = append(names, d.Setting)
	}
	return names
}

func TestReplicasThatDisagreeSaySo(t *testing.T) {
	t.Parallel()
	broker := devkittest.Start(t, devkit.Options{Dir: t.TempDir()})
	billing := faulttest.StartRecorder(t, "billing")
	one := join(t, broker.URL(), "one", billing, "ROLLCALL_LOG_LEVEL=warn")
	one.until("a replica alone agrees with itself", func(s web.Status) bool { return len(s.Peers.Replicas) == 1 })
	// What is a replica's own affair is no disagreement.
	two := join(t, broker.URL(), "two", billing, "ROLLCALL_LOG_LEVEL=error")
	both := one.until("both are seen", func(s web.Status) bool { return len(s.Peers.Replicas) == 2 })
	if got := mixes(both); got != nil || both.Peers.Replicas[0].Digest != both.Peers.Replicas[1].Digest {
		t.Errorf("replicas with the same settings differ in %v", got)
	}

	three := join(t, broker.URL(), "three", billing,
		"ROLLCALL_SERVICES=billing="+billing.URL()+",audit="+billing.URL(), "ROLLCALL_MAX_ATTEMPTS=3")
	for _, m := range []member{one, two, three} {
		s := m.until("the mix is seen", func(s web.Status) bool { return len(s.Peers.Replicas) == 3 && len(mixes(s)) > 0 })
		for _, want := range []string{"ROLLCALL_SERVICES", "ROLLCALL_MAX_ATTEMPTS", "ROLLCALL_SVC_AUDIT_TIMEOUT"} {
			if !slices.Contains(mixes(s), want) {
				t.Errorf("%s: the mix is %v, want %s in it", m.addr, mixes(s), want)
			}
		}
		if !strings.Contains(m.page("/metrics"), `rollcall_pool_mixed{pool="default"} 1`) {
			t.Error("the gauge does not say that the pool is mixed")
		}
		if !strings.Contains(m.page("/"), "Replicas disagree") {
			t.Error("the page does not say that the pool is mixed")
		}
	}
	three.stop()
	one.until("the pool agrees again", func(s web.Status) bool { return len(s.Peers.Replicas) == 2 && len(mixes(s)) == 0 })
}

// TestAMixIsSeenThoughNobodyLooks: nobody has the page open, and the gauge shows it all the same.
func TestAMixIsSeenThoughNobodyLooks(t *testing.T) {
	t.Parallel()
	broker := devkittest.Start(t, devkit.Options{Dir: t.TempDir()})
	billing := faulttest.StartRecorder(t, "billing")
	one := join(t, broker.URL(), "one", billing)
	join(t, broker.URL(), "two", billing, "ROLLCALL_MAX_ATTEMPTS=3")
	faulttest.Until(t, limit, "the gauge shows the mix", func() bool {
		return strings.Contains(one.page("/metrics"), `rollcall_pool_mixed{pool="default"} 1`)
	})
}
