package app_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"rollcall/internal/app"
	"rollcall/internal/bus"
	"rollcall/internal/faulttest"
	"rollcall/internal/history"
	"rollcall/internal/operate"
)

// A chain of three pools: jobs, what became of them, and what became of that. Every link has
// the retries and the ledger that jobs have.
func TestEventsAreTheJobsOfTheNextPool(t *testing.T) {
	t.Parallel()
	r := newRig(t, []string{"billing"})
	link := func(pool, takes string) (*faulttest.Recorder, []string) {
		r.beside = append(r.beside, pool)
		s := faulttest.StartRecorder(t, pool)
		return s, []string{
			"ROLLCALL_POOL=" + pool, "ROLLCALL_STREAM=DONE", "ROLLCALL_START=all", "ROLLCALL_SUBJECTS=done.batches." + takes + ".>", "ROLLCALL_SERVICES=" + pool + "=" + s.URL(),
		}
	}
	webhooks, first := link("webhooks", "default")
	audit, second := link("audit", "webhooks")
	r.start()
	r.start(first...)
	r.start(second...)
	for i := range 3 {
		r.send("jobs.test", fmt.Sprint("job-", i), "1")
	}
	r.judge()
	faulttest.Until(t, limit, "an event has come to the end of the chain", func() bool { return audit.Count() > 0 })
	conn, err := bus.Connect(t.Context(), r.config().NATS, t.Name(), zerolog.Nop(), r.inProcess)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	state, err := operate.NewAdmin(conn, r.config(first...).Streams, "webhooks").State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]int{}
	for _, stream := range state.Streams {
		names[stream.Name]++
	}
	if names["DONE"] != 1 || names["DEAD"] != 1 {
		t.Errorf("the state of the pool lists %v", names)
	}
	events, err := faulttest.Events(t.Context(), r.js)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*faulttest.Recorder{webhooks, audit} {
		for _, call := range s.Calls() {
			if !slices.ContainsFunc(events, func(e history.Event) bool { return e.ID == call.ID }) {
				t.Errorf("%s was called for %+v; want a completion event", s.Name, call)
			}
		}
	}
}

// A pool that would take its own events, or a consumer that fakes jobs, does not start.
func TestAPoolThatWouldDoHarmDoesNotStart(t *testing.T) {
	t.Parallel()
	r := newRig(t, []string{"billing"})
	if _, err := app.LoadRun(slices.Concat(r.env, []string{"ROLLCALL_STREAM=DONE", "ROLLCALL_SUBJECTS=done.batches.>"})); err == nil {
		t.Error("a pool over its own events was accepted")
	}
	consumer, err := r.js.Consumer(t.Context(), "JOBS", "default")
	if err != nil {
		t.Fatal(err)
	}
	config := consumer.CachedInfo().Config
	config.HeadersOnly = true
	if _, err := r.js.UpdateConsumer(t.Context(), "JOBS", config); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	err = app.Run(ctx, r.config(), zerolog.Nop(), app.Options{NATS: []nats.Option{r.inProcess}, Patience: time.Second})
	if !errors.Is(err, app.ErrRefusedSetup) {
		t.Errorf("the replica ended with %v, want a refusal", err)
	}
}
