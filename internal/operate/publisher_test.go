package operate_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"rollcall/internal/bus"
	"rollcall/internal/devkit"
	"rollcall/internal/devkit/devkittest"
	"rollcall/internal/jobs"
	"rollcall/internal/operate"
)

// producer returns a connection to a server of its own with the stream JOBS for "jobs.>" and
// a stream OTHER for "other".
func producer(t *testing.T) (*bus.Conn, jetstream.Stream) {
	t.Helper()
	s := devkittest.Start(t, devkit.Options{})
	conn, err := bus.Connect(t.Context(), bus.Config{URL: s.URL()}, t.Name(), zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	js, err := jetstream.New(conn.NATS())
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "JOBS", Subjects: []string{"jobs.>"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"other"}}); err != nil {
		t.Fatal(err)
	}
	return conn, stream
}

func publisher(t *testing.T, conn *bus.Conn) *operate.Publisher {
	t.Helper()
	p, err := operate.NewPublisher(t.Context(), conn, "JOBS")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func messages(subject string, ids ...string) iter.Seq2[*nats.Msg, error] {
	return func(yield func(*nats.Msg, error) bool) {
		for _, id := range ids {
			if !yield(&nats.Msg{Subject: subject, Header: nats.Header{"Nats-Msg-Id": {id}}, Data: []byte("{}")}, nil) {
				return
			}
		}
	}
}

func TestPublishConfirmsMoreThanTheWindowInOrder(t *testing.T) {
	t.Parallel()
	conn, stream := producer(t)
	const n = 5000
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprint(i)
	}
	p, confirmed := publisher(t, conn), 0
	err := p.Publish(t.Context(), messages("jobs.x", ids...), func(m *nats.Msg, r operate.Receipt) error {
		if m.Header.Get("Nats-Msg-Id") != ids[confirmed] || r.Duplicate {
			t.Fatalf("confirmation %d: got %q, duplicate %t", confirmed, m.Header.Get("Nats-Msg-Id"), r.Duplicate)
		}
		confirmed++
		if want := (jobs.Ref{Epoch: jobs.Epoch(stream.CachedInfo().Created), Seq: uint64(confirmed)}); r.Ref != want {
			t.Fatalf("got ref %v, want %v", r.Ref, want)
		}
		return nil
	})
	if err != nil || confirmed != n {
		t.Errorf("confirmed %d of %d: %v", confirmed, n, err)
	}
}

func TestADuplicateIsToldWithTheFirstOnesSequence(t *testing.T) {
	t.Parallel()
	conn, _ := producer(t)
	var got []operate.Receipt
	err := publisher(t, conn).Publish(t.Context(), messages("jobs.x", "a", "a"), func(_ *nats.Msg, r operate.Receipt) error {
		got = append(got, r)
		return nil
	})
	if err != nil || len(got) != 2 || got[0].Duplicate || !got[1].Duplicate || got[0].Ref != got[1].Ref {
		t.Errorf("got %+v, %v; want the same ref twice, the second a duplicate", got, err)
	}
}

func TestASubjectTheStreamDoesNotHoldIsNamed(t *testing.T) {
	t.Parallel()
	conn, _ := producer(t)
	p := publisher(t, conn)
	for name, subject := range map[string]string{"held by no stream": "nowhere", "held by another stream": "other"} {
		err := p.Publish(t.Context(), messages(subject, "a"), func(*nats.Msg, operate.Receipt) error { return nil })
		if !errors.Is(err, operate.ErrNoStream) || !strings.Contains(err.Error(), "jobs.>") || !strings.Contains(err.Error(), subject) {
			t.Errorf("%s: got %v, want ErrNoStream, the subject and what the stream holds", name, err)
		}
	}
}

func TestAMissingStreamIsToldBeforeAnythingIsSent(t *testing.T) {
	t.Parallel()
	conn, _ := producer(t)
	if _, err := operate.NewPublisher(t.Context(), conn, "NONE"); !errors.Is(err, bus.ErrMissing) || !strings.Contains(err.Error(), "worker setup") {
		t.Errorf("got %v, want ErrMissing and the command that fixes it", err)
	}
}

func TestPublishStopsAtTheFirstFault(t *testing.T) {
	t.Parallel()
	conn, stream := producer(t)
	p, broken := publisher(t, conn), errors.New("broken")
	source := func(yield func(*nats.Msg, error) bool) {
		for m := range messages("jobs.x", "a", "b") {
			if !yield(m, nil) {
				return
			}
		}
		if yield(nil, broken) {
			t.Error("the source was asked for more after its fault")
		}
	}
	confirmed := 0
	err := p.Publish(t.Context(), source, func(*nats.Msg, operate.Receipt) error { confirmed++; return nil })
	if !errors.Is(err, broken) || confirmed != 2 {
		t.Errorf("got %v after %d confirmations, want the fault after 2", err, confirmed)
	}
	err = p.Publish(t.Context(), messages("jobs.x", "c", "d"), func(*nats.Msg, operate.Receipt) error { return broken })
	if !errors.Is(err, broken) {
		t.Errorf("got %v, want the fault of confirmed", err)
	}
	if info, err := stream.Info(t.Context()); err != nil || info.State.Msgs < 3 {
		t.Errorf("the stream holds %+v, %v; want the jobs sent before the faults", info.State, err)
	}
}

func TestPublishEndsWithItsContext(t *testing.T) {
	t.Parallel()
	conn, _ := producer(t)
	gone := errors.New("gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	endless := func(yield func(*nats.Msg, error) bool) {
		for n := 0; yield(&nats.Msg{Subject: "jobs.x"}, nil); n++ {
			if n == 100 {
				cancel(gone)
			}
		}
	}
	if err := publisher(t, conn).Publish(ctx, endless, func(*nats.Msg, operate.Receipt) error { return nil }); !errors.Is(err, gone) {
		t.Errorf("got %v, want the cause of the context", err)
	}
}

func TestABrokerThatGoesAwayLeavesJobsUnconfirmed(t *testing.T) {
	t.Parallel()
	s := devkittest.Start(t, devkit.Options{})
	conn, err := bus.Connect(t.Context(), bus.Config{URL: s.URL()}, t.Name(), zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	js, _ := jetstream.New(conn.NATS())
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "JOBS", Subjects: []string{"jobs.>"}}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	endless := func(yield func(*nats.Msg, error) bool) {
		for n := 0; yield(&nats.Msg{Subject: "jobs.x"}, nil); n++ {
			if n == 100 {
				s.Shutdown()
			}
		}
	}
	if err := publisher(t, conn).Publish(ctx, endless, func(*nats.Msg, operate.Receipt) error { return nil }); !errors.Is(err, operate.ErrUnconfirmed) {
		t.Errorf("got %v, want ErrUnconfirmed", err)
	}
}

// TestAFullStreamSaysSo, and how it takes more.
func TestAFullStreamSaysSo(t *testing.T) {
	t.Parallel()
	conn, _ := producer(t)
	editStream(t, conn, "JOBS", func(config *jetstream.StreamConfig) { config.MaxMsgs, config.Discard = 1, jetstream.DiscardNew })
	err := publisher(t, conn).Publish(t.Context(), messages("jobs.a", "1", "2"), func(*nats.Msg, operate.Receipt) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "stream JOBS takes no more") {
		t.Errorf("Publish() = %v", err)
	}
}
