package operate_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"rollcall/internal/bus"
	"rollcall/internal/operate"
)

func TestBacklogCountsWhatWaits(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	if _, err := adminOf(conn).Backlog(t.Context()); !errors.Is(err, bus.ErrMissing) {
		t.Errorf("without streams: %v, want ErrMissing", err)
	}
	if _, _, err := adminOf(conn).ClockOffset(t.Context()); !errors.Is(err, bus.ErrMissing) {
		t.Errorf("without streams the clock: %v, want ErrMissing", err)
	}
	ensure(t, conn, streams())
	for range 3 {
		if _, err := conn.NATS().Request("jobs.a", nil, patience); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := conn.NATS().Request("$JS.API.CONSUMER.MSG.NEXT.JOBS."+pool, []byte("1"), patience); err != nil {
		t.Fatal(err)
	}
	want := operate.Backlog{Stored: 3, Pending: 2, Unsettled: 1}
	// The consumer counts a moment behind the PubAcks.
	eventually(t, fmt.Sprintf("the backlog is %+v", want), func() bool {
		got, err := adminOf(conn).Backlog(t.Context())
		return err == nil && got == want
	})
}

func TestClockOffsetOfOneMachineIsSmall(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	ensure(t, conn, streams())
	offset, within, err := adminOf(conn).ClockOffset(t.Context())
	if err != nil || offset.Abs() > within+time.Millisecond || within <= 0 {
		t.Errorf("the same clock is off by %v within %v, %v", offset, within, err)
	}
}

func TestWithoutEventsThereIsNothingToWaitFor(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	ensure(t, conn, streams())
	if err := jetStream(t, conn).DeleteStream(t.Context(), bus.StreamDone); err != nil {
		t.Fatal(err)
	}
	a := adminOf(conn)
	for name, ask := range map[string]func(context.Context) error{
		"Sets":     func(ctx context.Context) error { _, _, err := a.Sets(ctx, 10); return err },
		"Set":      func(ctx context.Context) error { _, err := a.Set(ctx, "s"); return err },
		"CloseSet": func(ctx context.Context) error { _, err := a.CloseSet(ctx, "s", 1); return err },
		"Erase":    func(ctx context.Context) error { _, err := a.Erase(ctx, "me", "id"); return err },
	} {
		begun := time.Now()
		if err := ask(patient(t)); !errors.Is(err, bus.ErrMissing) || time.Since(begun) > 2*time.Second {
			t.Errorf("%s: %v after %v, want ErrMissing at once", name, err, time.Since(begun))
		}
	}
}
