package sim_test

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"rollcall/internal/jobs"
)

// refusals are services that refuse every request for a while, whoever sends it and whatever is in
// it: with 401, as after a mistake in the settings, or with 429. Neither is a job's doing, so no job
// ends of it or pays an attempt for it.
type refusals struct {
	// until says how long a service refuses, by its name, and code by which status.
	until map[string]time.Time
	code  map[string]int
	// burnt are the batches in which something was learnt of a job, by its uid.
	burnt map[string]map[string]bool
}

func newRefusals() refusals {
	return refusals{until: map[string]time.Time{}, code: map[string]int{}, burnt: map[string]map[string]bool{}}
}

// errRefused is why a service refuses.
var errRefused = errors.New("refuses everybody")

// refuse makes a service refuse for a while.
func (n *nemesis) refuse() {
	names, codes := []string{"billing", "index", "stats"}, []int{http.StatusUnauthorized, http.StatusTooManyRequests}
	name, code := names[n.dice.between(0, len(names)-1)], codes[n.dice.between(0, 1)]
	w := n.world
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refusals.until[name], w.refusals.code[name] = time.Now().Add(n.dice.upTo(3*ackWait)), code
}

// refusal is what a service makes of every call right now, nil if it answers.
func (w *world) refusal(service string) *jobs.Failure {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.calm.Load() || !time.Now().Before(w.refusals.until[service]) {
		return nil
	}
	f := &jobs.Failure{Reason: jobs.ReasonThrottled, Code: w.refusals.code[service], Free: true, Err: errRefused}
	if f.Code == http.StatusUnauthorized {
		f.Reason, f.Misconfigured = jobs.ReasonHTTP4xx, true
	}
	return f
}

// learnt notes the jobs of which a call says anything: those pay an attempt, once for a batch.
func (w *world) learnt(call *jobs.Call, result *jobs.CallResult) {
	if f := result.Failure; f != nil && (f.Free || result.Tries == 0) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, j := range call.Jobs {
		if w.refusals.burnt[j.UID] == nil {
			w.refusals.burnt[j.UID] = map[string]bool{}
		}
		w.refusals.burnt[j.UID][call.BatchID] = true
	}
}

// charged judges the attempts of a job by an event, and whether a refusal ended it. The caller holds
// the lock.
func (w *world) charged(j *jobs.EventJob) {
	if n := len(w.refusals.burnt[j.UID]); j.Attempt > n {
		w.violation("job %s is at attempt %d, and in %d batches something was learnt of it", j.UID, j.Attempt, n)
	}
	if j.Outcome.Dead() && strings.HasSuffix(j.Reason, errRefused.Error()) && !strings.HasPrefix(j.Reason, "gave up after") {
		w.violation("job %s ended %s of a refusal: %s", j.UID, j.Outcome, j.Reason)
	}
}
