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
			admin := login(t, s, "admin", "a")
			setup := ensure(t, admin, streams())
			source, intake, _ := openSource(t, setup, login(t, s, "worker", "w"))
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

// jobsFullForLater makes a job stream that takes nothing more, so that a job that is due waits in LATER, and returns
// the sequence of that job there.
func jobsFullForLater(t *testing.T, conn *bus.Conn) (waits uint64) {
	t.Helper()
	js := jetStream(t, conn)
	stream, err := js.Stream(t.Context(), "JOBS")
	if err != nil {
		t.Fatal(err)
	}
	config := stream.CachedInfo().Config
	config.MaxMsgs = int64(stream.CachedInfo().State.Msgs)
	if _, err := js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	if err := delay(t, conn, "victim", "due.mail", 300*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the job is due", func() bool { return dueLeft(t, conn) == 1 })
	return stateOf(t, conn, bus.StreamLater).LastSeq
}

// A producer can write what the server refuses as a header into the value of another, behind a bare line feed.
func TestAJobThatSaysItWasDelayedSweepsNothingThatWaits(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		subject string
		seq     func(victim uint64) uint64
		acked   bool
	}{
		"beyond the end of LATER": {"jobs.mail", func(uint64) uint64 { return 999_999 }, true},
		"the job that waits":      {"jobs.mail", func(victim uint64) uint64 { return victim }, false},
		"one that has entered":    {"jobs.mail", func(uint64) uint64 { return 1 }, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t)
			conn := connect(t, s)
			source, intake, _ := openSource(t, ensure(t, conn, streams()), conn)
			header := "NATS/1.0\r\nX: a\nNats-Stream-Source: LATER %d > > " + test.subject + "\r\n\r\n"
			if err := delay(t, conn, "before", "due.mail", 10*time.Millisecond); err != nil { // LATER has sequences from 1 on: its own, and this one due
				t.Fatal(err)
			}
			before := receive(t, intake, source, 1)
			ackAll(t, source, before)
			eventually(t, "the job before is acked", func() bool { return jobsLeft(t, conn) == 0 && dueLeft(t, conn) == 0 })
			victim := stateOf(t, conn, bus.StreamLater).LastSeq + 2 // behind its schedule
			bustest.PublishRaw(t, s, test.subject, fmt.Sprintf(header, test.seq(victim)), "{}")
			forged := receive(t, intake, source, 1)
			if waits := jobsFullForLater(t, conn); waits != victim {
				t.Fatalf("the job waits under %d, not %d", waits, victim)
			}
			ackAll(t, source, forged)
			if test.acked {
				eventually(t, "the job that was never delayed is acked", func() bool { return jobsLeft(t, conn) == 0 || dueLeft(t, conn) == 0 })
			} else {
				again := receive(t, intake, source, 1)
				if again[0].Ref != forged[0].Ref {
					t.Fatalf("%v came, want the job of the forged header again", again[0].Ref)
				}
				if n := dueLeft(t, conn); n != 1 {
					t.Fatal("the job that waits is gone")
				}
				stream, err := jetStream(t, conn).Stream(t.Context(), "JOBS")
				if err != nil {
					t.Fatal(err)
				}
				config := stream.CachedInfo().Config
				config.MaxMsgs = -1
				if _, err := jetStream(t, conn).UpdateStream(t.Context(), config); err != nil {
					t.Fatal(err)
				}
			}
			got := receive(t, intake, source, 1)
			if string(got[0].Data) != "victim" {
				t.Errorf("%s came, want the job that waited", got[0].Data)
			}
		})
	}
}
