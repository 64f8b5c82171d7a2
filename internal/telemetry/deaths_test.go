package telemetry_test

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"rollcall/internal/jobs"
	"rollcall/internal/telemetry"
)

func TestTheLogSaysThatJobsDied(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out lines
		o := telemetry.NewLogObserver(zerolog.New(&out).Level(zerolog.InfoLevel))
		end := func(outcomes ...jobs.Outcome) {
			b := &jobs.Batch{ID: "b"}
			s := &jobs.Settlement{Batch: b}
			for _, outcome := range outcomes {
				b.Jobs = append(b.Jobs, &jobs.Job{})
				s.Rulings = append(s.Rulings, jobs.Ruling{Outcome: outcome, Service: "billing", Reason: "declined"})
			}
			_, ended := o.Batch(t.Context(), b)
			ended(jobs.BatchEnd{Result: jobs.BatchCommitted, Settlement: s})
		}
		end(jobs.Succeeded, jobs.Retrying)
		if got := out.String(); got != "" {
			t.Fatalf("nobody died, and the log says %s", got)
		}
		end(jobs.Failed, jobs.Succeeded)
		if got := out.String(); !strings.Contains(got, `"level":"warn","failed":1,"expired":0,"invalid":0,"services":{"billing":1},"last_service":"billing","last_reason":"declined"`) {
			t.Errorf("the first death: %s", got)
		}
		for range 1000 {
			end(jobs.Expired, jobs.Invalid)
		}
		if n := strings.Count(out.String(), "\n"); n != 1 {
			t.Errorf("%d lines at once, want one", n)
		}
		time.Sleep(11 * time.Second)
		synctest.Wait()
		if got := out.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, `"failed":0,"expired":1000,"invalid":1000`) {
			t.Errorf("after a while: %s", got)
		}
		time.Sleep(11 * time.Second)
		synctest.Wait()
		if n := strings.Count(out.String(), "\n"); n != 2 {
			t.Errorf("%d lines though nobody died since", n)
		}
	})
}

// What a replica holds back is written when it stops, and nothing after that.
func TestTheLogSaysAtTheEndWhoDied(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out lines
		o := telemetry.NewLogObserver(zerolog.New(&out))
		died := func() {
			b := &jobs.Batch{ID: "b", Jobs: []*jobs.Job{{}}}
			_, ended := o.Batch(t.Context(), b)
			ended(jobs.BatchEnd{Result: jobs.BatchCommitted, Settlement: &jobs.Settlement{
				Batch: b, Rulings: []jobs.Ruling{{Outcome: jobs.Failed, Service: "billing", Reason: "declined"}},
			}})
		}
		deaths := func() int { return strings.Count(out.String(), "ended as dead letters") }
		for range 3 {
			died()
		}
		o.Close()
		if got := out.String(); deaths() != 2 || !strings.Contains(got, `"failed":2,`) {
			t.Errorf("one line for the first and one for the other two, got %s", got)
		}
		time.Sleep(11 * time.Second)
		synctest.Wait()
		if got := deaths(); got != 2 {
			t.Errorf("%d lines a while after the end, want 2", got)
		}
		for range 2 {
			died()
		}
		if got := deaths(); got != 4 {
			t.Errorf("%d lines once two more died after the end, want 4", got)
		}
	})
}

// Jobs that different services refuse stand in one line, and each is counted where it was refused.
func TestTheLogSaysWhichServicesJobsDiedOf(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out lines
		o := telemetry.NewLogObserver(zerolog.New(&out))
		end := func(rulings ...jobs.Ruling) {
			b := &jobs.Batch{ID: "b"}
			for range rulings {
				b.Jobs = append(b.Jobs, &jobs.Job{})
			}
			_, ended := o.Batch(t.Context(), b)
			ended(jobs.BatchEnd{Result: jobs.BatchCommitted, Settlement: &jobs.Settlement{Batch: b, Rulings: rulings}})
		}
		refused := func(service string) jobs.Ruling {
			return jobs.Ruling{Outcome: jobs.Failed, Service: service, Reason: "refused by " + service}
		}
		end(refused("index"), refused("billing"), jobs.Ruling{Outcome: jobs.Succeeded},
			jobs.Ruling{Outcome: jobs.Retrying, Service: "mail"}, refused("billing"))
		want := `"failed":3,"expired":0,"invalid":0,"services":{"billing":2,"index":1},"last_service":"billing","last_reason":"refused by billing"`
		if got := out.String(); !strings.Contains(got, want) {
			t.Errorf("two services refused jobs: %s", got)
		}
		end(refused("billing"))
		end(jobs.Ruling{Outcome: jobs.Invalid, Reason: "no service takes it"})
		time.Sleep(11 * time.Second)
		synctest.Wait()
		want = `"failed":1,"expired":0,"invalid":1,"services":{"billing":1},"last_reason":"no service takes it"`
		if got := out.String(); !strings.Contains(got, want) {
			t.Errorf("then one more, and a job that reached none: %s", got)
		}
	})
}

// lines keeps what is logged, also by timers.
type lines struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}
