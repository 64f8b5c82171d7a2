package sim_test

import (
	"strings"
	"time"

	"rollcall/internal/jobs"
)

// Kinds of jobs, by how their bodies begin. All others are innocent.
const (
	// kindRefused is refused by every required service, for good.
	kindRefused = "refused"
	// kindPoison kills the process that calls a service for it.
	kindPoison = "poison"
	// kindToxic makes every call that it is in answer 500.
	kindToxic = "toxic"
	// kindLarge has a header of a megabyte.
	kindLarge = "large"
	// kindPartial is not routed to all services, kindNobody to none.
	kindPartial, kindNobody = "partial", "nobody"
)

const (
	subjectAll, subjectPartial, subjectNobody = "jobs.sim", "jobs.partial", "jobs.nobody"
	// onlyService takes the jobs of subjectPartial.
	onlyService = "billing"
)

const largeHeader = 1 << 20

// hostile makes a job of its kind of a delivery.
func hostile(d *jobs.Delivery) {
	d.Subject = subjectAll
	switch kind := string(d.Data); {
	case strings.HasPrefix(kind, kindLarge):
		d.Header["X-Large"] = []string{strings.Repeat("x", largeHeader)}
	case strings.HasPrefix(kind, kindPartial):
		d.Subject = subjectPartial
	case strings.HasPrefix(kind, kindNobody):
		d.Subject = subjectNobody
	}
}

// Takes is the route of the service.
func (s service) Takes(subject string) bool {
	switch subject {
	case subjectNobody:
		return false
	case subjectPartial:
		return s.name == onlyService
	default:
		return true
	}
}

// blamed judges how a job ended: nobody may pay for what a mate of his does. The caller holds the
// lock.
func (w *world) blamed(replica string, j *jobs.EventJob) {
	body := w.bodies[j.UID]
	switch {
	case j.Outcome == jobs.Cancelled:
	case j.Outcome == jobs.Expired:
		w.expired(replica, j.UID)
	case j.Outcome == jobs.Invalid != strings.HasPrefix(body, kindNobody):
		w.violation("job %s, %.10q, ended %s: %s", j.UID, body, j.Outcome, j.Reason)
	case j.Reason == jobs.ReasonCrashLoop && !strings.HasPrefix(body, kindPoison) && w.undisturbed(j.UID):
		w.violation("job %s, %.10q, is blamed for crashes", j.UID, body)
	case strings.HasPrefix(j.Reason, "gave up after") && !strings.HasPrefix(body, kindToxic):
		w.violation("job %s, %.10q, %s", j.UID, body, j.Reason)
	}
	for service := range j.Services {
		if strings.HasPrefix(body, kindPartial) && service != onlyService {
			w.violation("job %s is not routed to %s, and its event names it", j.UID, service)
		}
	}
}

// loneRun is a batch of one job, on a replica.
type loneRun struct {
	batch, replica string
	at             time.Time
}

// disturbance is what a replica suffered; poison means that a job killed it.
type disturbance struct {
	replica string
	at      time.Time
	poison  bool
}

// calledAlone notes that a service is called for one job. The caller holds the lock.
func (w *world) calledAlone(replica string, c *jobs.Call) {
	uid := c.Jobs[0].UID
	if runs := w.alone[uid]; len(runs) == 0 || runs[len(runs)-1].batch != c.BatchID {
		w.alone[uid] = append(runs, loneRun{c.BatchID, replica, time.Now()})
	}
}

// disturbed notes that a replica was killed, stopped, stalled, cut off or denied something.
func (w *world) disturbed(replica string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.disturbances = append(w.disturbances, disturbance{replica: replica, at: time.Now()})
}

// poisoned notes that a job killed its replica.
func (w *world) poisoned(replica string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.disturbances = append(w.disturbances, disturbance{replica, time.Now(), true})
}

// undisturbed reports whether one of a job's last two runs alone was cut off by no disturbance. A job
// is blamed for the third run whose end is on no record, and has the process to itself in the
// second and third; so it was its mates, or something of ours. Where the data was set back, records
// of ends are gone. The caller holds the lock.
func (w *world) undisturbed(uid string) bool {
	if !w.setBackAt.IsZero() {
		return false
	}
	runs := w.alone[uid]
	last := runs[max(len(runs)-2, 0):]
	return len(last) < 2 || !w.interrupted(last[0]) || !w.interrupted(last[1])
}

// interrupted reports whether a disturbance may have kept the end of a run from being recorded. Another
// job that kills the replica meanwhile is none: it must not have been there.
func (w *world) interrupted(run loneRun) (interrupted bool) {
	for _, d := range w.disturbances {
		after := d.at.Sub(run.at)
		switch {
		case d.replica != run.replica:
		case d.poison && after >= 0 && after < 2*ackWait:
			return false
		case !d.poison && after > -ackWait && after < 2*ackWait:
			interrupted = true
		}
	}
	return interrupted
}

// deadlineDrains stops replicas in a row, each long before its calls can end.
func (n *nemesis) deadlineDrains() {
	for range n.dice.between(2, 5) {
		if len(n.alive) == 0 {
			n.launch()
		}
		n.pick().stop(n.dice.upTo(200 * time.Millisecond))
		n.launch()
		time.Sleep(n.dice.upTo(5 * time.Second))
	}
}
