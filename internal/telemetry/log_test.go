package telemetry_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"rollcall/internal/jobs"
	"rollcall/internal/telemetry"
)

func TestConfigNamesEveryFault(t *testing.T) {
	t.Parallel()
	err := telemetry.Config{Level: "loud", Format: "xml"}.Validate()
	for _, want := range []string{"ROLLCALL_LOG_LEVEL", `"loud"`, "ROLLCALL_LOG_FORMAT", `"xml"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not mention %s", err, want)
		}
	}
	// zerolog's parser would take these for levels.
	for _, level := range []string{"fatal", "panic", "disabled", "1", ""} {
		if err := (telemetry.Config{Level: level, Format: "json"}).Validate(); err == nil {
			t.Errorf("level %q was accepted", level)
		}
	}
}

func TestLevels(t *testing.T) {
	t.Parallel()
	for level, want := range map[string]int{"debug": 4, "info": 3, "warn": 2, "error": 1} {
		var out bytes.Buffer
		log := telemetry.NewLogger(telemetry.Config{Level: level, Format: telemetry.FormatJSON}, &out)
		log.Debug().Msg("a")
		log.Info().Msg("b")
		log.Warn().Msg("c")
		log.Error().Msg("d")
		if got := strings.Count(out.String(), "\n"); got != want {
			t.Errorf("level %s wrote %d lines, want %d", level, got, want)
		}
	}
}

func TestLineHasATimeWithMilliseconds(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := telemetry.NewLogger(telemetry.Config{Level: "info", Format: telemetry.FormatJSON}, &out)
	log.Info().Str("stream", "JOBS").Msg("connected")
	var line struct{ Time, Level, Stream, Message string }
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatal(err)
	}
	at, err := time.Parse("2006-01-02T15:04:05.000Z", line.Time)
	if err != nil || time.Since(at).Abs() > time.Hour {
		t.Errorf("time %q: %v", line.Time, err)
	}
	if line.Level != "info" || line.Stream != "JOBS" || line.Message != "connected" {
		t.Errorf("got %+v", line)
	}
}

func TestConsoleIsForPeople(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := telemetry.NewLogger(telemetry.Config{Level: "info", Format: telemetry.FormatConsole}, &out)
	log.Info().Msg("connected")
	if got := out.String(); strings.Contains(got, "{") || strings.Contains(got, "\x1b") || !strings.Contains(got, "INF connected") {
		t.Errorf("got %q", got)
	}
}

// observed runs f against an observer that logs at level and returns the lines.
func observed(t *testing.T, level string, f func(*telemetry.LogObserver)) string {
	t.Helper()
	var out bytes.Buffer
	f(telemetry.NewLogObserver(telemetry.NewLogger(telemetry.Config{Level: level, Format: telemetry.FormatJSON}, &out)))
	return out.String()
}

func TestBatchIsALineAtDebug(t *testing.T) {
	t.Parallel()
	sealed := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	b := &jobs.Batch{ID: "b1", Seal: jobs.SealSize, SealedAt: sealed, Jobs: []*jobs.Job{{Body: []byte("payload-canary")}, {}}}
	s := &jobs.Settlement{
		Batch: b, Outcome: jobs.BatchPartial, SettledAt: sealed.Add(5 * time.Minute), Took: 42 * time.Millisecond,
		Rulings: []jobs.Ruling{{Outcome: jobs.Succeeded}, {Outcome: jobs.Retrying}},
		Event:   []byte("event-canary"),
	}
	settle := func(o *telemetry.LogObserver) {
		ctx, end := o.Batch(t.Context(), b)
		if ctx == nil {
			t.Error("no context")
		}
		end(jobs.BatchEnd{Result: jobs.BatchCommitted, Settlement: s})
	}
	if got := observed(t, "info", settle); got != "" {
		t.Errorf("a batch wrote %q at info", got)
	}
	got := observed(t, "debug", settle)
	for _, want := range []string{`"batch_id":"b1"`, `"seal":"size"`, `"outcome":"partial"`, `"jobs":2`, `"succeeded":1`, `"retrying":1`, `"duration_ms":42`} {
		if !strings.Contains(got, want) {
			t.Errorf("line %q lacks %s", got, want)
		}
	}
	if strings.Contains(got, "canary") || strings.Count(got, "\n") != 1 {
		t.Errorf("want one line without payload, got %q", got)
	}
	gone := observed(t, "debug", func(o *telemetry.LogObserver) {
		_, end := o.Batch(t.Context(), b)
		end(jobs.BatchEnd{Result: jobs.BatchAborted})
	})
	for result, want := range map[jobs.BatchResult]string{jobs.BatchSuperseded: "other replicas had finished", jobs.BatchWaiting: "hold the batch back"} {
		if got := observed(t, "debug", func(o *telemetry.LogObserver) {
			_, end := o.Batch(t.Context(), b)
			end(jobs.BatchEnd{Result: result})
		}); !strings.Contains(got, want) {
			t.Errorf("a batch that is %s wrote %q, want %q", result, got, want)
		}
	}
	if !strings.Contains(gone, "not committed") {
		t.Errorf("an abandoned batch wrote %q", gone)
	}
}

func TestOnlyFailedCallsAreWritten(t *testing.T) {
	t.Parallel()
	call := &jobs.Call{BatchID: "b1", Service: "billing", Body: []byte("payload-canary")}
	got := observed(t, "debug", func(o *telemetry.LogObserver) {
		_, end := o.Call(t.Context(), call)
		end(&jobs.CallResult{Replies: []jobs.Reply{{}}, Tries: 1})
		_, end = o.Call(t.Context(), call)
		end(&jobs.CallResult{Tries: 3, Repeats: 2, Failure: &jobs.Failure{Reason: jobs.ReasonHTTP5xx, Code: 503, Err: errors.New("unavailable")}})
	})
	if strings.Count(got, "\n") != 1 || !strings.Contains(got, `"reason":"http_5xx"`) || !strings.Contains(got, `"code":503`) || !strings.Contains(got, "unavailable") {
		t.Errorf("got %q; want one line for the failed call", got)
	}
	if strings.Contains(got, "canary") {
		t.Errorf("payload in the log: %q", got)
	}
}

func TestOccurrencesWorthALook(t *testing.T) {
	t.Parallel()
	for e, want := range map[jobs.Occurrence]string{
		jobs.Received:   "",
		jobs.HandedBack: "",
		jobs.LeaseLost:  `"level":"warn"`,
		jobs.CrashLoops: `"level":"warn"`,
		jobs.Panics:     `"level":"error"`,
	} {
		got := observed(t, "warn", func(o *telemetry.LogObserver) { o.Event(e, 3); o.Event(e, 0) })
		if want == "" && got != "" || want != "" && (!strings.Contains(got, want) || !strings.Contains(got, `"count":3`) || strings.Count(got, "\n") != 1) {
			t.Errorf("occurrence %d wrote %q, want %q", e, got, want)
		}
	}
}
