package bus_test

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/bus"
	"rollcall/internal/bus/bustest"
	"rollcall/internal/jobs"
)

// dueLeft counts the messages in LATER of jobs that were due.
func dueLeft(t testing.TB, conn *bus.Conn) (n uint64) {
	t.Helper()
	stream, err := jetStream(t, conn).Stream(t.Context(), bus.StreamLater)
	if err != nil {
		t.Fatal(err)
	}
	info, err := stream.Info(t.Context(), jetstream.WithSubjectFilter("due.>"))
	if err != nil {
		t.Fatal(err)
	}
	for _, messages := range info.State.Subjects {
		n += messages
	}
	return n
}

// delayed makes n jobs due and returns their deliveries, beside some that were not delayed.
func delayed(t testing.TB, conn *bus.Conn, intake context.Context, source *bus.Source, ids ...string) []jobs.Delivery {
	t.Helper()
	publish(t, conn, "jobs.at.once", numbered(3)...)
	for _, id := range ids {
		if err := delay(t, conn, id, "due.mail", 300*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	return receive(t, intake, source, len(ids)+3)
}

// A broker that crashes may take what is in LATER for new.
func TestADelayedJobHasLeftLaterWhenItIsAcked(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	source, intake, _ := openSource(t, ensure(t, conn, streams()), conn)
	for range 5 {
		got := delayed(t, conn, intake, source, "a", "b", "c")
		if n := dueLeft(t, conn); n != 3 {
			t.Fatalf("%d of 3 due jobs are in LATER before they end: the test proves nothing", n)
		}
		ackAll(t, source, got)
		eventually(t, "the jobs are acked", func() bool { return jobsLeft(t, conn) == 0 })
		if n := dueLeft(t, conn); n != 0 {
			t.Fatalf("%d messages are in LATER of jobs that are acked", n)
		}
	}
}

// The last settlements of a process are those that a drain makes.
func TestASourceClosesOnceTheAcksOfDelayedJobsAreSent(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	setup := ensure(t, conn, streams())
	source := bus.NewSource(conn, setup, nopLog())
	end := runSource(t, source)
	intake, stop := context.WithCancel(t.Context())
	defer stop()
	got := delayed(t, conn, intake, source, "a", "b")
	stop()
	closeSource(t, source) // all pulls have ended: nothing else is left to wait for
	ackAll(t, source, got)
	closeSource(t, source)
	end()
	eventually(t, "the jobs are acked", func() bool { return jobsLeft(t, conn) == 0 })
}

// A LATER that was made again numbers its messages from 1.
func TestJobsOfAnOlderLaterSweepNothingOfTheNew(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	setup := ensure(t, conn, streams())
	source, intake, _ := openSource(t, setup, conn)
	got := delayed(t, conn, intake, source, "a", "b", "c")
	js := jetStream(t, conn)
	if err := js.DeleteStream(t.Context(), bus.StreamLater); err != nil {
		t.Fatal(err)
	}
	if _, _, err := setup.Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range 10 { // the new LATER has the numbers of the old jobs too
		if err := delay(t, conn, strconv.Itoa(i), "due.mail", time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	// It is stored as if it had been due; the job stream does not take it up so soon.
	if _, err := js.Publish(t.Context(), "due.mail", []byte("new")); err != nil {
		t.Fatal(err)
	}
	ackAll(t, source, got)
	eventually(t, "the jobs are acked", func() bool { return jobsLeft(t, conn) <= 1 })
	if entered, left := jobsLeft(t, conn), dueLeft(t, conn); entered+left == 0 {
		t.Error("the due job of the new LATER is gone")
	}
}

// An older configuration of users lacks the right; without LATER there is nothing to sweep.
func TestDelayedJobsAreAckedWhereLaterCannotBeSwept(t *testing.T) {
	t.Parallel()
	for name, deny := range map[string][]string{"no right to sweep": {"$JS.API.STREAM.PURGE.LATER"}, "LATER was deleted": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t, overTCP, func(o *server.Options) {
				worker := &server.Permissions{Publish: &server.SubjectPermission{Allow: []string{">"}, Deny: deny}}
				o.Users = []*server.User{{Username: "worker", Password: "w", Permissions: worker}, {Username: "admin", Password: "a"}}
			})
			admin := login(t, s.ClientURL(), "admin", "a")
			setup := ensure(t, admin, streams())
			source, intake, _ := openSource(t, setup, login(t, s.ClientURL(), "worker", "w"))
			got := delayed(t, admin, intake, source, "a", "b", "c")
			if deny == nil {
				if err := jetStream(t, admin).DeleteStream(t.Context(), bus.StreamLater); err != nil {
					t.Fatal(err)
				}
			}
			ackAll(t, source, got)
			eventually(t, "the jobs are acked", func() bool { return jobsLeft(t, admin) == 0 })
		})
	}
}

// fill makes the job stream take nothing more.
func fill(t *testing.T, conn *bus.Conn) {
	t.Helper()
	editStream(t, conn, "JOBS", func(config *jetstream.StreamConfig) { config.MaxMsgs = int64(stateOf(t, conn, "JOBS").Msgs) })
}

// A producer can write what the server refuses as a header into the value of another, behind a bare line feed.
func TestAJobThatSaysItWasDelayedSweepsNothingThatWaits(t *testing.T) {
	t.Parallel()
	for name, number := range map[string]func(victim uint64) uint64{
		"beyond the end of LATER": func(uint64) uint64 { return 999_999 },
		"the job that waits":      func(victim uint64) uint64 { return victim },
		"one that has entered":    func(uint64) uint64 { return 1 },
		"one that is not due":     func(victim uint64) uint64 { return victim + 1 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t)
			conn := connect(t, s)
			source, intake, _ := openSource(t, ensure(t, conn, streams()), conn)
			if err := delay(t, conn, "before", "due.mail", 10*time.Millisecond); err != nil { // LATER has sequences from 1 on: its schedule, and this one due
				t.Fatal(err)
			}
			ackAll(t, source, receive(t, intake, source, 1))
			eventually(t, "the job before is acked", func() bool { return jobsLeft(t, conn) == 0 && dueLeft(t, conn) == 0 })
			victim := stateOf(t, conn, bus.StreamLater).LastSeq + 2 // behind its schedule
			header := "NATS/1.0\r\nX: a\nNats-Stream-Source: LATER %d > > jobs.mail\r\n\r\n"
			bustest.PublishRaw(t, s, "jobs.mail", fmt.Sprintf(header, number(victim)), "{}")
			forged := receive(t, intake, source, 1)
			fill(t, conn)
			if err := delay(t, conn, "victim", "due.mail", 300*time.Millisecond); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the job is due", func() bool { return dueLeft(t, conn) == 1 })
			if err := delay(t, conn, "next-year", "due.mail", 365*24*time.Hour); err != nil {
				t.Fatal(err)
			}
			if waits := stateOf(t, conn, bus.StreamLater).LastSeq - 1; waits != victim {
				t.Fatalf("the job waits under %d, not %d", waits, victim)
			}
			ackAll(t, source, forged)
			got := receive(t, intake, source, 1) // it enters where the forged one leaves
			if string(got[0].Data) != "victim" {
				t.Errorf("%s came, want the job that waited", got[0].Data)
			}
		})
	}
}

// What stands in a mirror of the job stream, or in one that sources no longer, was delayed and is not sourced again.
func TestDelayedJobsAreAckedWhereNothingIsSourced(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(t *testing.T, conn *bus.Conn) *bus.Setup{
		"a mirror": func(t *testing.T, conn *bus.Conn) *bus.Setup {
			ensure(t, conn, streams())
			s := standing(t, conn, jetstream.StreamConfig{Mirror: &jetstream.StreamSource{Name: "JOBS"}}, 0)
			s.Subjects = []string{"jobs.>"}
			setup := bus.NewSetup(conn, s, pool)
			if _, _, err := setup.Ensure(t.Context()); err != nil {
				t.Fatal(err)
			}
			return setup
		},
		"no source any more": func(t *testing.T, conn *bus.Conn) *bus.Setup { return ensure(t, conn, streams()) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := connect(t, startServer(t))
			source, intake, _ := openSource(t, open(t, conn), conn)
			got := delayed(t, conn, intake, source, "a", "b", "c")
			if name != "a mirror" {
				editStream(t, conn, "JOBS", func(config *jetstream.StreamConfig) { config.Sources = nil })
			}
			ackAll(t, source, got)
			eventually(t, "the jobs are acked", func() bool {
				stream := "JOBS"
				if name == "a mirror" {
					stream = "ORDERS"
				}
				consumer, err := jetStream(t, conn).Consumer(t.Context(), stream, pool)
				if err != nil {
					t.Fatal(err)
				}
				return consumer.CachedInfo().NumAckPending == 0
			})
		})
	}
}

// A LATER that is younger than the job stream may be another one than the stream speaks of, for a minute.
func TestDelayedJobsAreNotAckedBeforeTheyAreKnownToHaveEntered(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	js := jetStream(t, conn)
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "JOBS", Subjects: []string{"jobs.>"}, Retention: jetstream.WorkQueuePolicy}); err != nil {
		t.Fatal(err)
	}
	setup := ensure(t, conn, streams())
	later := jetstream.StreamConfig{Name: bus.StreamLater, Subjects: []string{"later.>", "due.>"}, AllowMsgSchedules: true, AllowMsgTTL: true, AllowRollup: true}
	if _, err := js.CreateStream(t.Context(), later); err != nil {
		t.Fatal(err)
	}
	editStream(t, conn, "JOBS", func(config *jetstream.StreamConfig) {
		config.Sources = []*jetstream.StreamSource{{
			Name: bus.StreamLater, SubjectTransforms: []jetstream.SubjectTransformConfig{{Source: "due.>", Destination: "jobs.>"}},
		}}
	})
	source, intake, _ := openSource(t, setup, conn)
	got := delayed(t, conn, intake, source, "a", "b", "c")
	ackAll(t, source, got)
	eventually(t, "the jobs that were not delayed are acked", func() bool { return jobsLeft(t, conn) <= 3 })
	again := receive(t, intake, source, 3)
	if left, due := jobsLeft(t, conn), dueLeft(t, conn); left != 3 || due != 3 {
		t.Errorf("%d of 3 delayed jobs are left, and %d in LATER", left, due)
	}
	if again[0].Delivered < 2 {
		t.Errorf("delivery %d came, want the job again", again[0].Delivered)
	}
}
