package operate_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
	"rollcall/internal/ledger"
	"rollcall/internal/ledger/ledgertest"
	"rollcall/internal/operate"
)

func commitBatches(t *testing.T, l *ledger.Ledger, from, to int) {
	t.Helper()
	for b := from; b < to; b++ {
		if err := l.Commit(patient(t), ledgertest.Settlement(fmt.Sprintf("b%d", b), jobs.Succeeded, uint64(b))); err != nil {
			t.Fatal(err)
		}
	}
}

func TestStoredEventsAreReadInOrder(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	ensure(t, conn, streams())
	events := operate.NewEvents(conn)
	none := func(operate.Event) error { return errors.New("an event out of nothing") }
	if err := events.Stored(t.Context(), pool, 0, false, none); err != nil {
		t.Fatal(err)
	}
	l := runLedger(t, conn)
	commitBatches(t, l, 0, 20)

	var ids []string
	var middle uint64
	err := events.Stored(patient(t), "*", 0, false, func(e operate.Event) error {
		if e.Pool != pool || e.Outcome != jobs.BatchSucceeded || e.Seq == 0 || e.Time.IsZero() || string(e.Data) != `{"id":"`+e.BatchID+`"}` {
			t.Errorf("unexpected event %+v", e)
		}
		if ids = append(ids, e.BatchID); len(ids) == 11 {
			middle = e.Seq
		}
		return nil
	})
	if err != nil || len(ids) != 20 || ids[0] != "b0" || ids[19] != "b19" {
		t.Errorf("read %v, %v; want b0 to b19", ids, err)
	}
	ids = nil
	err = events.Stored(patient(t), pool, middle, false, func(e operate.Event) error {
		ids = append(ids, e.BatchID)
		return nil
	})
	if err != nil || len(ids) != 10 || ids[0] != "b10" {
		t.Errorf("from sequence %d: read %v, %v; want b10 to b19", middle, ids, err)
	}
	if err := events.Stored(t.Context(), "other", 0, false, none); err != nil {
		t.Errorf("another pool: %v", err)
	}
	enough := errors.New("enough")
	if err := events.Stored(t.Context(), pool, 0, false, func(operate.Event) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("Stored() = %v, want the error of each", err)
	}
}

func TestEventsAreFollowedAndHeard(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	ensure(t, conn, streams())
	l := runLedger(t, conn)
	commitBatches(t, l, 0, 3)
	events := operate.NewEvents(conn)
	ctx, stop := context.WithCancel(t.Context())
	ids := map[string]chan string{"followed": make(chan string, 10), "heard": make(chan string, 10)}
	each := func(way string) func(operate.Event) error {
		return func(e operate.Event) error {
			ids[way] <- e.BatchID
			return nil
		}
	}
	ended := make(chan error, 2)
	before := conn.NATS().NumSubscriptions()
	go func() { ended <- events.Heard(ctx, pool, each("heard")) }()
	eventually(t, "the listener listens", func() bool { return conn.NATS().NumSubscriptions() > before })
	go func() { ended <- events.Stored(ctx, pool, 0, true, each("followed")) }()
	commitBatches(t, l, 3, 6)
	for way, want := range map[string][]string{"followed": {"b0", "b1", "b2", "b3", "b4", "b5"}, "heard": {"b3", "b4", "b5"}} {
		var got []string
		for range want {
			got = append(got, <-ids[way])
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s %v, want %v", way, got, want)
		}
	}
	stop()
	for range 2 {
		if err := <-ended; err != nil {
			t.Errorf("ended with %v, want nil", err)
		}
	}
}

// TestWhatIsDeletedWhileItIsReadIsNotWaitedFor: nats.go asks for 500 messages at once, so those behind
// them go while the reader is told that they are there.
func TestWhatIsDeletedWhileItIsReadIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	ensure(t, conn, streams())
	const pulled, stored = 500, 600
	for n := range stored {
		publish(t, conn, bus.EventSubject(pool, jobs.BatchSucceeded, fmt.Sprint("b", n)), []byte("{}"))
	}
	read := 0
	err := operate.NewEvents(conn).Stored(patient(t), pool, 0, false, func(operate.Event) error {
		if read++; read > 1 {
			return nil
		}
		stream, err := jetStream(t, conn).Stream(t.Context(), "DONE")
		if err != nil {
			return err
		}
		eventually(t, "all that was asked for is delivered", func() bool {
			for c := range stream.ListConsumers(t.Context()).Info() {
				if c.Delivered.Stream == pulled {
					return true
				}
			}
			return false
		})
		for seq := uint64(pulled + 1); seq <= stored; seq++ {
			if err := stream.DeleteMsg(t.Context(), seq); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || read != pulled {
		t.Errorf("%d events were read, %v; want %d", read, err, pulled)
	}
}
