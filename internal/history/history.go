package history

import (
	"fmt"
	"time"

	"rollcall/internal/jobs"
)

// Rule names a promise that was broken.
type Rule string

// The rules, in the order they are checked.
const (
	Lost       Rule = "lost"
	Doubled    Rule = "doubled"
	Repeated   Rule = "repeated"
	Unknown    Rule = "unknown"
	Miscounted Rule = "miscounted"
	Buried     Rule = "buried"
	Mismatched Rule = "mismatched"
	Recalled   Rule = "recalled"
)

// Violation is one broken promise.
type Violation struct {
	Rule Rule `json:"rule"`
	// UID is the job concerned, empty if the violation is about an event as a whole.
	UID string `json:"uid,omitempty"`
	// Detail says what was seen, for a person.
	Detail string `json:"detail"`
}

// String implements fmt.Stringer.
func (v Violation) String() string {
	if v.UID == "" {
		return fmt.Sprintf("%s: %s", v.Rule, v.Detail)
	}
	return fmt.Sprintf("%s: job %s: %s", v.Rule, v.UID, v.Detail)
}

// Job is a job whose producer holds a PubAck.
type Job struct {
	UID string
	ID  string
	// Source is the CloudEvents source that services must see for it.
	Source string
}

// Event is a stored completion event.
type Event struct {
	jobs.Event
	// Stored is the broker's time stamp.
	Stored time.Time
}

// Call is one job in one call, as the service saw it.
type Call struct {
	Service string
	UID     string
	ID      string
	Source  string
	// Bare means that the request carried neither id nor source, as in the format plain.
	Bare bool
	// Received is when the service had read the call.
	Received time.Time
}

// History is what a run left behind. The zero value is an empty one. It is not safe for
// concurrent use.
type History struct {
	Accepted []Job
	// Events in the order they were stored.
	Events []Event
	// DeadLetters holds the Rollcall-Uid of each.
	DeadLetters []string
	Calls       []Call
	// AtRest means that the pool had nothing left to do: every accepted job must be final.
	AtRest bool
	// Calm means that no worker died or was overtaken: every job that ended badly has exactly
	// one dead letter and no other job has any. Letters are published before the commit they
	// belong to, so otherwise a letter may be there twice, or for a job that ended well.
	Calm bool
	// Grace is how long after a success was stored a call for the same job may still arrive
	// at the service. 0 where the broker's clock is the services' clock and no worker was
	// paused; the length of the pause where one was.
	Grace time.Duration
}

// Violations returns every broken promise, none for a good run.
func (h *History) Violations() []Violation {
	j := judge{
		history:  h,
		accepted: make(map[string]Job, len(h.Accepted)),
		ended:    make(map[string]ending, len(h.Accepted)),
		okAt:     make(map[success]time.Time),
	}
	for _, job := range h.Accepted {
		j.accepted[job.UID] = job
	}
	j.events()
	j.losses()
	j.deadLetters()
	j.calls()
	return j.found
}

// ending is the event in which a job is final.
type ending struct {
	event   string
	outcome jobs.Outcome
	stored  time.Time
}

// success names a job and a service that succeeded for it.
type success struct{ uid, service string }

type judge struct {
	history  *History
	accepted map[string]Job
	ended    map[string]ending
	okAt     map[success]time.Time
	found    []Violation
}

func (j *judge) report(rule Rule, uid, format string, args ...any) {
	j.found = append(j.found, Violation{Rule: rule, UID: uid, Detail: fmt.Sprintf(format, args...)})
}

func (j *judge) events() {
	seen := make(map[string]bool, len(j.history.Events))
	for i := range j.history.Events {
		e := &j.history.Events[i]
		if seen[e.ID] {
			j.report(Repeated, "", "event %s is stored twice", e.ID)
		}
		seen[e.ID] = true
		j.counts(e)
		j.entries(e)
	}
}

// counts compares what an event says of itself with the jobs it lists.
func (j *judge) counts(e *Event) {
	got := jobs.Counts{Total: len(e.Data.Jobs)}
	for i := range e.Data.Jobs {
		switch outcome := e.Data.Jobs[i].Outcome; outcome {
		case jobs.Succeeded:
			got.Succeeded++
		case jobs.Failed:
			got.Failed++
		case jobs.Expired:
			got.Expired++
		case jobs.Invalid:
			got.Invalid++
		case jobs.Cancelled:
			got.Cancelled++
		case jobs.Retrying:
			got.Retrying++
		default:
			j.report(Miscounted, e.Data.Jobs[i].UID, "event %s gives it the outcome %q", e.ID, outcome)
		}
	}
	if got != e.Data.Counts {
		j.report(Miscounted, "", "event %s says %+v and lists %+v", e.ID, e.Data.Counts, got)
	}
	if want := got.Outcome(); e.Data.Outcome != want || e.Subject != string(want) {
		j.report(Miscounted, "", "event %s has the outcome %q and the subject %q, its jobs make it %q", e.ID, e.Data.Outcome, e.Subject, want)
	}
}

func (j *judge) entries(e *Event) {
	listed := make(map[string]bool, len(e.Data.Jobs))
	for i := range e.Data.Jobs {
		entry := &e.Data.Jobs[i]
		uid := entry.UID
		if listed[uid] {
			j.report(Repeated, uid, "event %s lists it twice", e.ID)
		}
		listed[uid] = true
		if _, known := j.accepted[uid]; !known {
			j.report(Unknown, uid, "event %s lists it, but nobody published it", e.ID)
		}
		if entry.Final() {
			if first, twice := j.ended[uid]; twice {
				j.report(Doubled, uid, "%s in event %s and again %s in event %s", first.outcome, first.event, entry.Outcome, e.ID)
			} else {
				j.ended[uid] = ending{event: e.ID, outcome: entry.Outcome, stored: e.Stored}
			}
		}
		j.successes(e, entry)
	}
}

// successes notes since when the ledger has known that a service succeeded for a job: the
// pages were stored in one commit with the event.
func (j *judge) successes(e *Event, entry *jobs.EventJob) {
	for service, status := range entry.Services {
		name := success{uid: entry.UID, service: service}
		if _, known := j.okAt[name]; !known && status == jobs.StatusOK.String() {
			j.okAt[name] = e.Stored
		}
	}
}

func (j *judge) losses() {
	if !j.history.AtRest {
		return
	}
	for _, job := range j.history.Accepted {
		if _, done := j.ended[job.UID]; !done {
			j.report(Lost, job.UID, "published as %q and final in no event", job.ID)
		}
	}
}

func (j *judge) deadLetters() {
	letters := make(map[string]int, len(j.history.DeadLetters))
	for _, uid := range j.history.DeadLetters {
		letters[uid]++
		if _, known := j.accepted[uid]; !known {
			j.report(Unknown, uid, "has a dead letter, but nobody published it")
		}
	}
	for _, job := range j.history.Accepted {
		end, done := j.ended[job.UID]
		want, got := 0, letters[job.UID]
		if done && end.outcome.Dead() {
			want = 1
		}
		if got < want || got > want && j.history.Calm {
			j.report(Buried, job.UID, "has %d dead letters and ended %q, want %d", got, end.outcome, want)
		}
	}
}

func (j *judge) calls() {
	for i := range j.history.Calls {
		c := &j.history.Calls[i]
		job, known := j.accepted[c.UID]
		if !known {
			j.report(Unknown, c.UID, "%s was called for it, but nobody published it", c.Service)
			continue
		}
		if !c.Bare && (c.ID != job.ID || c.Source != job.Source) {
			j.report(Mismatched, c.UID, "%s got source %q and id %q, want %q and %q", c.Service, c.Source, c.ID, job.Source, job.ID)
		}
		stored, succeeded := j.okAt[success{uid: c.UID, service: c.Service}]
		end, ended := j.ended[c.UID]
		if late := c.Received.Sub(stored); succeeded && late > j.history.Grace {
			j.report(Recalled, c.UID, "%s was called %s after its success was stored", c.Service, late)
		} else if late := c.Received.Sub(end.stored); ended && late > j.history.Grace {
			j.report(Recalled, c.UID, "%s was called %s after event %s had ended it as %s", c.Service, late, end.event, end.outcome)
		}
	}
}
