package devkit_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rollcall/internal/devkit"
	"rollcall/internal/history"
)

func serve(t *testing.T, b devkit.Behaviour, journal *devkit.Journal) *devkit.Service {
	t.Helper()
	s, err := devkit.Serve(t.Context(), "127.0.0.1:0", b, journal)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	return s
}

// post sends a call for the jobs of these ids and returns the status and the body.
func post(t *testing.T, url string, ids ...string) (int, string) {
	t.Helper()
	events := make([]map[string]any, len(ids))
	for i, id := range ids {
		events[i] = map[string]any{"specversion": "1.0", "id": id, "source": "/rollcall/JOBS/e", "type": "jobs.x", "rollcalluid": "e." + id, "data": i}
	}
	body, err := json.Marshal(events)
	if err != nil {
		t.Fatal(err)
	}
	return send(t, http.MethodPost, url, body, map[string]string{"Content-Type": "application/cloudevents-batch+json", "Idempotency-Key": `"b:s"`})
}

func send(t *testing.T, method, url string, body []byte, header map[string]string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(answer)
}

func TestFastSaysOKToEveryJob(t *testing.T) {
	t.Parallel()
	code, body := post(t, serve(t, devkit.Fast(), nil).URL(), "1", "2")
	want := `{"results":[{"id":"1","status":"ok"},{"id":"2","status":"ok"}]}` + "\n"
	if code != http.StatusOK || body != want {
		t.Errorf("got %d %s, want 200 %s", code, body, want)
	}
}

func TestSteadyTakesItsTime(t *testing.T) {
	t.Parallel()
	const delay = 30 * time.Millisecond
	s := serve(t, devkit.Steady(delay), nil)
	begun := time.Now()
	code, _ := post(t, s.URL(), "1")
	if took := time.Since(begun); code != http.StatusOK || took < delay {
		t.Errorf("got %d after %s, want 200 after %s", code, took, delay)
	}
}

func TestSteadyLeavesWithItsCaller(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := devkit.Steady(time.Hour)(ctx, &devkit.Call{}); got.Code != http.StatusServiceUnavailable {
		t.Errorf("got %+v, want 503", got)
	}
}

func TestACallThatBreaksTheContractIsRefused(t *testing.T) {
	t.Parallel()
	url := serve(t, devkit.Fast(), nil).URL()
	good := map[string]string{"Content-Type": "application/cloudevents-batch+json", "Idempotency-Key": "k"}
	for name, c := range map[string]struct {
		method, body string
		header       map[string]string
		code         int
		says         string
	}{
		"get":             {http.MethodGet, ``, good, 405, "post"},
		"media type":      {http.MethodPost, `[]`, map[string]string{"Content-Type": "application/json"}, 400, "content type"},
		"not a batch":     {http.MethodPost, `{}`, good, 400, "batch"},
		"no key":          {http.MethodPost, `[]`, map[string]string{"Content-Type": good["Content-Type"]}, 400, "Idempotency-Key"},
		"job without uid": {http.MethodPost, `[{"id":"1","source":"s","type":"t"}]`, good, 400, "job 0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, body := send(t, c.method, url, []byte(c.body), c.header)
			if code != c.code || !strings.Contains(body, c.says) {
				t.Errorf("got %d %q, want %d with %q", code, body, c.code, c.says)
			}
		})
	}
}

func TestTheJournalNotesEveryJobOfACall(t *testing.T) {
	t.Parallel()
	journal := devkit.NewJournal("billing")
	post(t, serve(t, devkit.Fast(), journal).URL(), "1", "2")
	calls := journal.Calls()
	for i := range calls {
		if calls[i].Received.IsZero() {
			t.Errorf("call %d has no time", i)
		}
		calls[i].Received = time.Time{}
	}
	want := []history.Call{
		{Service: "billing", UID: "e.1", ID: "1", Source: "/rollcall/JOBS/e"},
		{Service: "billing", UID: "e.2", ID: "2", Source: "/rollcall/JOBS/e"},
	}
	if diff := cmp.Diff(want, calls); diff != "" {
		t.Error(diff)
	}
}

func TestShutdownCutsACallThatOutlastsIt(t *testing.T) {
	t.Parallel()
	entered := make(chan struct{})
	s, err := devkit.Serve(t.Context(), "127.0.0.1:0", func(ctx context.Context, _ *devkit.Call) devkit.Answer {
		close(entered)
		<-ctx.Done()
		return devkit.Answer{}
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		req, _ := http.NewRequest(http.MethodPost, s.URL(), strings.NewReader("[]"))
		req.Header.Set("Content-Type", "application/cloudevents-batch+json")
		req.Header.Set("Idempotency-Key", "k")
		resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
		if err == nil {
			err = resp.Body.Close()
		}
		done <- err
	}()
	<-entered
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Shutdown(ctx); err == nil {
		t.Error("Shutdown did not say that it cut a call")
	}
	<-done
}

// settle asks for job by itself until it is not `retry`; the 500s are stepped over.
func settle(f *devkit.Flaky, id string) (status string, putOff int) {
	for {
		a := f.Answer(context.Background(), &devkit.Call{Jobs: []devkit.Job{{ID: id, Source: "s"}}})
		switch {
		case a.Code == http.StatusInternalServerError:
		case a.Results[0].Status == "retry":
			putOff++
		default:
			return a.Results[0].Status, putOff
		}
	}
}

func TestFlakyDoesWhatItForetold(t *testing.T) {
	t.Parallel()
	f := devkit.NewFlaky(1)
	refused, putOffs := 0, map[int]int{}
	for n := range 5000 {
		id := fmt.Sprintf("job-%d", n)
		status, putOff := settle(f, id)
		if want := f.Refuses(id); (status == "fail") != want {
			t.Fatalf("%s: got %q, foretold to be refused: %t", id, status, want)
		}
		if want := f.PutsOff(id); putOff != want {
			t.Fatalf("%s: put off %d times, foretold %d", id, putOff, want)
		}
		if status == "fail" {
			refused++
		}
		putOffs[putOff]++
	}
	// 1 % refused, 5 % put off, half of those twice; generous bounds around 50, 125, 125.
	for what, n := range map[string]int{"refused": refused, "put off once": putOffs[1], "put off twice": putOffs[2]} {
		if n < 25 || n > 200 {
			t.Errorf("%s: %d of 5000", what, n)
		}
	}
}

func TestFlakyTreatsEqualIDsAlikeForEqualSeeds(t *testing.T) {
	t.Parallel()
	a, b, other := devkit.NewFlaky(7), devkit.NewFlaky(7), devkit.NewFlaky(8)
	differ := 0
	for n := range 1000 {
		id := fmt.Sprint(n)
		if a.Refuses(id) != b.Refuses(id) || a.PutsOff(id) != b.PutsOff(id) {
			t.Fatalf("%s differs between equal seeds", id)
		}
		if a.PutsOff(id) != other.PutsOff(id) {
			differ++
		}
	}
	if differ == 0 {
		t.Error("the seed changes nothing")
	}
}

func TestFlakyAnswers500EverySixteenthCall(t *testing.T) {
	t.Parallel()
	f, errors := devkit.NewFlaky(1), 0
	for range 64 {
		if f.Answer(t.Context(), &devkit.Call{}).Code == http.StatusInternalServerError {
			errors++
		}
	}
	if errors != 4 {
		t.Errorf("got %d errors in 64 calls, want 4", errors)
	}
}
