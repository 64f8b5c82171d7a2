package bus_test

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
)

// TestTheBrokersClockIsKnown: with a machine five minutes ahead, every fresh job would be five
// minutes old.
func TestTheBrokersClockIsKnown(t *testing.T) {
	t.Parallel()
	for name, wrong := range map[string]time.Duration{"ahead": 5 * time.Minute, "behind": -time.Hour, "right": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log syncBuffer
			s := startServer(t)
			conn, err := bus.Connect(t.Context(), bus.Config{URL: "nats://127.0.0.1:4222"}, t.Name(), zerolog.New(&log), nats.InProcessServer(s))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close(t.Context()) }()
			conn.Clock().Wrong(wrong)
			if skew, known := conn.Clock().Skew(); known || skew != 0 {
				t.Errorf("a skew of %v is known before the broker said anything", skew)
			}
			ensure(t, conn, streams())
			if _, err := conn.Stream(t.Context(), "JOBS"); err != nil {
				t.Fatal(err)
			}
			if off := time.Until(conn.Clock().Now()).Abs(); off > time.Second {
				t.Errorf("the broker's clock is off by %v", off)
			}
			if warned := strings.Contains(log.String(), "clock of this machine differs"); warned != (wrong != 0) {
				t.Errorf("warned: %v, with a clock that is wrong by %v", warned, wrong)
			}
		})
	}
}

// TestASlowAnswerSaysLittleAboutTheClock: what a reply that took long cannot tell is no skew.
func TestASlowAnswerSaysLittleAboutTheClock(t *testing.T) {
	t.Parallel()
	start := time.Now()
	clock := bus.NewClock(nopLog(), time.Now)
	clock.Observe(start.Add(-20*time.Second), start.Add(-time.Second), start)
	if skew, known := clock.Skew(); !known || skew != 0 {
		t.Errorf("the skew is %v (known: %v), want 0 of a reply that took 20 s", skew, known)
	}
	clock.Observe(start.Add(-2*time.Second), start.Add(59*time.Second), start)
	if skew, _ := clock.Skew(); skew != time.Minute {
		t.Errorf("the skew is %v, want that of the reply that took the least time", skew)
	}
}

// TestADeadLetterIsDatedByTheBrokersClock: the times of a job's history are of one clock.
func TestADeadLetterIsDatedByTheBrokersClock(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	ensure(t, conn, streams())
	now := time.Now()
	conn.Clock().Observe(now, now.Add(5*time.Minute), now)
	letter := letterOf(1, "jobs.a", []byte("x"), nil)
	if err := bus.NewDeadLetters(conn, pool, nopLog()).Publish(patient(t), []jobs.DeadLetter{letter}); err != nil {
		t.Fatal(err)
	}
	failed := deadLetters(t, conn)[0].Header.Get("Rollcall-Failed-At")
	if at, err := time.Parse(time.RFC3339Nano, failed); err != nil || at.Sub(now) < 5*time.Minute {
		t.Errorf("the letter says that its job failed at %s (%v), 5 minutes behind the broker", failed, err)
	}
}

// TestAPartitionDoesNotMakeTheClockUnknown: what was measured before is a better guess than the
// clock of this machine.
func TestAPartitionDoesNotMakeTheClockUnknown(t *testing.T) {
	t.Parallel()
	now := time.Now()
	clock := bus.NewClock(nopLog(), func() time.Time { return now })
	clock.Observe(now, now.Add(5*time.Minute), now)
	now = now.Add(time.Hour)
	if off := clock.Now().Sub(now.Add(5 * time.Minute)).Abs(); off > time.Second {
		t.Errorf("an hour later the broker's clock is off by %v", off)
	}
	clock.Observe(now, now.Add(4*time.Minute), now.Add(20*time.Second))
	if off := clock.Now().Sub(now.Add(5 * time.Minute)).Abs(); off > time.Second {
		t.Errorf("after a reply that took 20 s the broker's clock is off by %v", off)
	}
	clock.Observe(now, now.Add(3*time.Minute), now)
	if off := clock.Now().Sub(now.Add(3 * time.Minute)).Abs(); off > time.Second {
		t.Errorf("after a reply that took no time the broker's clock is off by %v", off)
	}
}
