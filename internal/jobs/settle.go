package jobs

import (
	"fmt"
	"slices"
	"time"
)

// Spec is what settling needs to know of a service.
type Spec struct {
	Name     string
	Required bool
}

// Policy bounds the attempts of a job and spaces them out.
type Policy struct {
	// MaxAttempts a job may burn before it is failed.
	MaxAttempts int
	// RetryMin and RetryMax bound the back-off between attempts.
	RetryMin, RetryMax time.Duration
	// AtMostOnce means that a job cannot come back, as in core mode: instead of a retry it fails.
	AtMostOnce bool
	// Random returns a number in [0, n); it makes the jitter.
	Random func(n int64) int64
}

// Replies is what the services said about one job in one batch, by service. An entry is nil
// where the service was not called for the job: it had succeeded before, or a verdict came
// first.
type Replies []*Reply

// burnt reports whether the replies count as an attempt of the job.
func (a Replies) burnt() bool {
	return slices.ContainsFunc(a, (*Reply).burnt)
}

func (a *Reply) burnt() bool {
	return a != nil && a.Status != StatusSkipped && !a.Unsent && !a.Free
}

// group returns how many jobs the next call may hold. A call that failed as a whole halves that,
// also where it burnt no attempt, as while a breaker lets trial calls pass: one of its jobs may be
// what keeps the breaker open. A reply about the job itself frees it of what was known.
func (a Replies) group(known int) int {
	group, answered := 0, false
	for _, r := range a {
		switch {
		case r == nil || r.Status == StatusSkipped || r.Unsent:
		case r.Status == StatusRetry && r.Alone:
			return 1
		case r.Status == StatusRetry && r.Group > 0:
			if group == 0 || r.Group < group {
				group = r.Group
			}
		default:
			answered = answered || !r.Free
		}
	}
	if group == 0 && !answered {
		return known
	}
	return group
}

// Rule decides what becomes of a job. It is pure. The table, first match wins:
//
//	verdict given                          → its outcome
//	a required service said fail           → failed
//	every required service succeeded,
//	now or earlier                         → succeeded
//	deadline passed                        → expired
//	no second chance, or attempts used up
//	and this one burnt by what is missing  → failed
//	otherwise                              → retrying
//
// Optional services never change the outcome.
func (p Policy) Rule(j *Job, specs []Spec, replies Replies, now time.Time) Ruling {
	r := Ruling{Burnt: replies.burnt(), Attempt: j.Record.Attempts, Delivered: j.Delivered}
	if r.Burnt {
		r.Attempt++
	}
	if j.Verdict != nil {
		r.Outcome, r.Reason = j.Verdict.Outcome, j.Verdict.Reason
		return r
	}
	pending, tried := r.read(j, specs, replies)
	switch {
	case r.Outcome == Failed:
	case !pending:
		r.Outcome, r.Reason, r.Service = Succeeded, "", ""
	case !j.Deadline.IsZero() && !now.Before(j.Deadline):
		r.Outcome, r.Reason = Expired, ReasonDeadline
	case p.AtMostOnce:
		r.Outcome = Failed
	case tried && r.Attempt >= p.MaxAttempts:
		r.Outcome = Failed
		r.Reason = gaveUp(r.Attempt) + r.Reason
	default:
		r.Outcome = Retrying
		r.OK = succeeded(specs, replies)
		r.Group = replies.group(j.Record.Group)
		r.Delay = p.delay(j, &r, replies, now)
	}
	return r
}

// Postpone rules anew on a job that cannot end yet, for a reason that is not its own: its dead
// letter cannot be stored. Nothing is burnt, and its lone runs stay on record.
func (p Policy) Postpone(j *Job, specs []Spec, replies Replies, reason string, now time.Time) Ruling {
	r := Ruling{
		Outcome: Retrying, Attempt: j.Record.Attempts, Delivered: j.Delivered, Reason: reason,
		Group: j.Record.Group, Lone: j.Record.Lone, OK: succeeded(specs, replies),
	}
	r.Delay = p.delay(j, &r, replies, now)
	if past := !j.Deadline.IsZero() && !now.Before(j.Deadline); past {
		r.Delay = p.Backoff(j.Record.Waits(j.Delivered))
	}
	return r
}

// read goes through the replies and sets Failed if a required service failed the job. pending
// reports whether a required service is still missing, tried whether one of those answered, so that
// an attempt was burnt: a service that cannot be reached never uses up a job's attempts.
func (r *Ruling) read(j *Job, specs []Spec, replies Replies) (pending, tried bool) {
	for i, spec := range specs {
		a := replies[i]
		switch {
		case a == nil && j.Record.HasOK(spec.Name):
		case a != nil && (a.Status == StatusOK || a.Status == StatusSkipped):
		case !spec.Required:
		case a != nil && a.Status == StatusFail:
			r.Outcome, r.Reason, r.Service = Failed, a.text(), spec.Name
			return true, true
		default:
			if !pending || !tried && a.burnt() {
				r.Reason, r.Service = a.text(), spec.Name
			}
			pending, tried = true, tried || a.burnt()
		}
	}
	return pending, tried
}

// succeeded names the services that said ok in this batch.
func succeeded(specs []Spec, replies Replies) (names []string) {
	for i, a := range replies {
		if a != nil && a.Status == StatusOK {
			names = append(names, specs[i].Name)
		}
	}
	return names
}

// gaveUp begins the reason of a job whose attempts are used up.
func gaveUp(attempts int) string {
	if attempts == 1 {
		return "gave up after 1 attempt: "
	}
	return fmt.Sprintf("gave up after %d attempts: ", attempts)
}

// text is what a person reads of a reply; a nil one was never given.
func (a *Reply) text() string {
	switch {
	case a == nil:
		return "the service was not called"
	case a.Error != "":
		return a.Error
	case a.Status == StatusFail:
		return "the service failed the job"
	default:
		return "the service asked for a retry"
	}
}

// Backoff returns how long to wait after the n-th of something that failed, counting from 1:
// full jitter, that is, uniform between 0 and RetryMin doubled n-1 times, at most RetryMax.
func (p Policy) Backoff(n int) time.Duration {
	ceiling := p.RetryMin
	for range max(n, 1) - 1 {
		if ceiling *= 2; ceiling >= p.RetryMax {
			break
		}
	}
	return time.Duration(p.Random(int64(min(ceiling, p.RetryMax)) + 1))
}

// delay is the back-off after an attempt, or, where none was burnt, by how often the job has
// waited in a row; but never less than a service asked for. It does not reach past the job's
// deadline, so that the job expires on time.
func (p Policy) delay(j *Job, r *Ruling, replies Replies, now time.Time) time.Duration {
	n := r.Attempt
	if !r.Burnt {
		n = j.Record.Waits(j.Delivered)
	}
	d := p.Backoff(n)
	for _, a := range replies {
		if a != nil && a.Status == StatusRetry {
			d = max(d, min(a.RetryAfter, p.RetryMax))
		}
	}
	if !j.Deadline.IsZero() {
		d = min(d, max(j.Deadline.Sub(now), 0))
	}
	return d
}

// Routed reports whether the job is for the pool's i-th service.
func (j *Job) Routed(i int) bool { return j.Route == nil || j.Route[i] }

// Wants reports whether the pool's i-th service has to be called for the job: there is no verdict,
// it is routed there, and the service has not succeeded for it yet.
func (j *Job) Wants(i int, service string) bool {
	return j.Verdict == nil && j.Routed(i) && !j.Record.HasOK(service)
}
