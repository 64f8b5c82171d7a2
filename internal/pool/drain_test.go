package pool_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"rollcall/internal/jobs"
	"rollcall/internal/pool"
)

func TestDrainFinishesWhatIsInFlightAndHandsBackTheRest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := settings()
		cfg.BatchesInFlight, cfg.BatchSize = 2, 3
		cfg.BatchKey = mustKey(t, "subject")
		r := start(t, cfg, service{name: "a", answer: after(10*time.Second, allOK)})
		r.push(deliveries(1, 3)...)
		for seq := uint64(4); seq <= 5; seq++ { // two more keys, of which only one finds a free slot
			d := delivery(seq)
			d.Subject = "jobs." + string(rune('a'+seq))
			r.push(d)
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		r.drain()
		synctest.Wait()
		if diff := cmp.Diff([]string{"nak 5"}, r.journal.all()); diff != "" {
			t.Errorf("right after the soft stop (-want +got):\n%s", diff)
		}
		if err := <-r.ended; err != nil {
			t.Fatalf("run: %v", err)
		}
		r.cut()
		seals := []jobs.Seal{r.ledger.settlements()[0].Batch.Seal, r.ledger.settlements()[1].Batch.Seal}
		slices.Sort(seals)
		if diff := cmp.Diff([]jobs.Seal{jobs.SealDrain, jobs.SealSize}, seals); diff != "" {
			t.Errorf("seals (-want +got):\n%s", diff)
		}
	})
}

func TestDrainFinishesWhatCannotBeGivenBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := settings()
		cfg.AtMostOnce, cfg.BatchKey = true, mustKey(t, "subject")
		r := start(t, cfg, service{name: "a", answer: after(time.Second, allOK)})
		for seq := range uint64(3) { // a batch each, for two slots
			d := delivery(seq + 1)
			d.Subject = fmt.Sprintf("jobs.%d", seq)
			r.push(d)
		}
		time.Sleep(100 * time.Millisecond)
		if err := r.stop(); err != nil {
			t.Fatalf("run: %v", err)
		}
		if n, back := len(r.ledger.settlements()), r.counter.of(jobs.HandedBack); n != 3 || back != 0 {
			t.Errorf("%d jobs ended and %d were handed back that nobody takes back, want 3 and none", n, back)
		}
	})
}

func TestDrainDeadlineCancelsCallsAndHandsBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, settings(), service{name: "a", answer: hang})
		r.push(deliveries(1, 2)...)
		synctest.Wait()
		r.drain()
		time.Sleep(25 * time.Second)
		r.cut()
		if err := <-r.ended; !errors.Is(err, pool.ErrDrainDeadline) {
			t.Errorf("run: %v, want the drain deadline", err)
		}
		got := slices.DeleteFunc(r.journal.all(), func(s string) bool { return strings.HasPrefix(s, "extend") })
		if diff := cmp.Diff([]string{"nak 1", "nak 2"}, got); diff != "" {
			t.Errorf("journal (-want +got):\n%s", diff)
		}
	})
}

func TestHardDeadlineDoesNotThrowFinishedWorkAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, settings(), service{name: "a", answer: allOK})
		r.ledger.hold = make(chan struct{})
		r.push(deliveries(1, 2)...)
		synctest.Wait()
		r.cut()
		time.Sleep(500 * time.Millisecond)
		close(r.ledger.hold)
		if err := <-r.ended; err != nil {
			t.Errorf("run: %v", err)
		}
		if n := len(r.ledger.settlements()); n != 1 {
			t.Errorf("%d commits", n)
		}
	})
}
