package bus_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
	"rollcall/internal/ledger"
	"rollcall/internal/ledger/ledgertest"
)

// watch runs the high water of a setup and returns what it reports: when it has reconnected, and
// since when the data is set back.
func watch(t *testing.T, setup *bus.Setup, log zerolog.Logger) (reconnected chan struct{}, setBack chan time.Time) {
	t.Helper()
	reconnected, setBack = make(chan struct{}, 16), make(chan time.Time, 16) // more than any test has
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		err := setup.HighWater().Run(ctx, log, bus.Changes{
			Reconnected: func() { reconnected <- struct{}{} },
			SetBack:     func(at time.Time) { setBack <- at },
		})
		if err != nil {
			t.Errorf("Run() = %v, want nil", err)
		}
	})
	t.Cleanup(func() {
		stop()
		running.Wait()
	})
	eventually(t, "the broker was looked at for the first time", func() bool { return setup.HighWater().Looked() })
	return reconnected, setBack
}

// reconnect breaks the connection and waits until the broker was looked at again.
func reconnect(t *testing.T, conn *bus.Conn, setup *bus.Setup) {
	t.Helper()
	before := conn.Reconnects()
	if err := conn.NATS().ForceReconnect(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "looked at again", func() bool { return conn.Reconnects() > before && setup.HighWater().Current() == nil })
}

// commitOne stores a group with one event.
func commitOne(t *testing.T, store ledger.Store, id string, seq uint64) {
	t.Helper()
	if err := runLedger(t, store).Commit(patient(t), ledgertest.Settlement(id, jobs.Succeeded, seq)); err != nil {
		t.Fatal(err)
	}
}

func TestAReconnectAloneIsNoSetBack(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	setup := ensure(t, conn, streams())
	reconnected, setBack := watch(t, setup, nopLog())
	commitOne(t, bus.NewUpkeep(conn, setup), "b1", 1)
	publish(t, conn, "jobs.a", numbered(3)...)
	reconnect(t, conn, setup)
	await(t, reconnected)
	if len(setBack) > 0 {
		t.Error("the broker counts as set back")
	}
}

// TestABrokerThatHasComeFurtherAgainIsFoundToBeSetBack: numbers alone do not show it, because
// others have written since. The last event that was committed here is gone, though.
func TestABrokerThatHasComeFurtherAgainIsFoundToBeSetBack(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	setup := ensure(t, conn, streams())
	var log strings.Builder
	_, setBack := watch(t, setup, zerolog.New(zerolog.SyncWriter(&log)))
	commitOne(t, bus.NewUpkeep(conn, setup), "b1", 1)
	done, err := jetStream(t, conn).Stream(t.Context(), bus.StreamDone)
	if err != nil {
		t.Fatal(err)
	}
	if err := done.Purge(t.Context(), jetstream.WithPurgeSubject(bus.EventsFilter(pool))); err != nil {
		t.Fatal(err)
	}
	reconnect(t, conn, setup)
	await(t, setBack)
	if !strings.Contains(log.String(), "the broker's data was set back") {
		t.Errorf("the log says %s", &log)
	}
	reconnect(t, conn, setup)
	if len(setBack) > 0 {
		t.Error("one set-back is reported twice")
	}
}

// TestAnEventThatHasLivedItsTimeIsNotMissed: it is gone because its time was over.
func TestAnEventThatHasLivedItsTimeIsNotMissed(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	s := streams()
	s.DoneAge = time.Nanosecond // over before the reconnect
	setup := ensure(t, conn, s)
	_, setBack := watch(t, setup, nopLog())
	commitOne(t, bus.NewUpkeep(conn, setup), "b1", 1)
	done, err := jetStream(t, conn).Stream(t.Context(), bus.StreamDone)
	if err != nil {
		t.Fatal(err)
	}
	if err := done.Purge(t.Context(), jetstream.WithPurgeSubject(bus.EventsFilter(pool))); err != nil {
		t.Fatal(err)
	}
	reconnect(t, conn, setup)
	if len(setBack) > 0 {
		t.Error("an event whose time was over counts as lost")
	}
}

// TestNothingIsSentBeforeTheBrokerWasLookedAt: between the reconnect and the look, a commit or an
// ack could reach a broker that was set back.
func TestNothingIsSentBeforeTheBrokerWasLookedAt(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	setup := ensure(t, conn, streams())
	source, intake, _ := openSource(t, setup, conn)
	looked, look := make(chan struct{}), make(chan struct{})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- setup.HighWater().Run(ctx, nopLog(), bus.Changes{
			Reconnected: func() { looked <- struct{}{}; <-look },
			SetBack:     func(time.Time) {},
		})
	}()
	eventually(t, "the broker was looked at for the first time", func() bool { return setup.HighWater().Looked() })
	publish(t, conn, "jobs.a", numbered(1)...)
	held := receive(t, intake, source, 1)
	if err := conn.NATS().ForceReconnect(); err != nil {
		t.Fatal(err)
	}
	<-looked
	store := bus.NewUpkeep(conn, setup)
	write := []ledger.Write{{Subject: ledgertest.Names().Page(jobs.Ref{Epoch: "e"})}}
	if _, err := store.Apply(t.Context(), write); !errors.Is(err, ledger.ErrBusy) {
		t.Errorf("Apply() = %v before the broker was looked at, want ErrBusy", err)
	}
	if err := source.Ack(&held[0]); err != nil {
		t.Errorf("Ack() = %v, want it to wait for the look", err)
	}
	if err := conn.NATS().FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	if jobsLeft(t, conn) != 1 {
		t.Error("a job was acked before the broker was looked at")
	}
	close(look)
	eventually(t, "commits are taken again", func() bool {
		_, err := store.Apply(t.Context(), write)
		return err == nil
	})
	eventually(t, "the job is acked", func() bool { return jobsLeft(t, conn) == 0 })
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestJobsOfABrokerThatWasSetBackAreNotSettled: their numbers may be those of other jobs.
func TestJobsOfABrokerThatWasSetBackAreNotSettled(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	setup := ensure(t, conn, streams())
	_, setBack := watch(t, setup, nopLog())
	source, intake, _ := openSource(t, setup, conn)
	publish(t, conn, "jobs.a", numbered(2)...)
	held := receive(t, intake, source, 2)
	// The stream ends lower than what was delivered.
	setup.HighWater().Delivered(1000)
	reconnect(t, conn, setup)
	await(t, setBack)
	for name, settle := range map[string]func(*jobs.Delivery) error{
		"ack": func(d *jobs.Delivery) error { return source.Ack(d) }, "extend": source.Extend, "nak": func(d *jobs.Delivery) error { return source.Nak(d, 0) },
	} {
		if err := settle(&held[0]); !errors.Is(err, ledger.ErrSetBack) {
			t.Errorf("%s of a job that was received before: %v, want ErrSetBack", name, err)
		}
	}
	again := receive(t, intake, source, 2)
	ackAll(t, source, again)
	eventually(t, "the jobs are settled once they are delivered again", func() bool { return jobsLeft(t, conn) == 0 })
}

// TestAUserWithoutTheRightToLookIsServed: the look is a safeguard, not a condition.
func TestAUserWithoutTheRightToLookIsServed(t *testing.T) {
	t.Parallel()
	s := startServer(t, func(o *server.Options) {
		o.Users = []*server.User{
			{Username: "admin", Password: "secret"},
			{Username: "worker", Password: "secret", Permissions: &server.Permissions{
				Publish: &server.SubjectPermission{Deny: []string{"$JS.API.STREAM.INFO.DONE"}},
			}},
		}
	})
	ensure(t, connectAs(t, s, "admin"), streams())
	conn := connectAs(t, s, "worker")
	setup := bus.NewSetup(conn, streams(), pool)
	watch(t, setup, nopLog())
	commitOne(t, bus.NewUpkeep(conn, setup), "b1", 1)
	reconnect(t, conn, setup)
	commitOne(t, bus.NewUpkeep(conn, setup), "b2", 2)
}

// connectAs returns the connection of a user with the password "secret".
func connectAs(t *testing.T, s *server.Server, user string) *bus.Conn {
	t.Helper()
	cfg := bus.Config{URL: "nats://127.0.0.1:4222", User: user, Password: jobs.NewSecret("secret")}
	conn, err := bus.Connect(t.Context(), cfg, t.Name(), nopLog(), nats.InProcessServer(s))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// await returns the next thing that a channel brings.
func await[T any](t *testing.T, from <-chan T) (next T) {
	t.Helper()
	select {
	case next = <-from:
	case <-time.After(patience):
		t.Fatal("nothing was reported")
	}
	return next
}
