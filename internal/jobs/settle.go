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
	// Once means that a job cannot come back, as in core mode: what would be retried is failed.
	Once bool
	// Random returns a number in [0, n); it makes the jitter.
	Random func(n int64) int64
}

// Answers is what the services said about one job in one batch, by service. An entry is nil
// where the service was not called for the job: it had succeeded before, or a verdict came
// first.
type Answers []*Reply

// Rule decides what becomes of a job. It is pure; sent tells whether any call for the job
// left this process in this batch. The table, first match wins:
//
//	verdict given                          → its outcome
//	a required service said fail           → failed
//	every required service succeeded,
//	now or earlier                         → succeeded
//	deadline passed                        → expired
//	attempts used up, or no second chance  → failed
//	otherwise                              → retrying
//
// Optional services never change the outcome.
func (p Policy) Rule(j *Job, specs []Spec, answers Answers, sent bool, now time.Time) Ruling {
	r := Ruling{Burnt: sent, Attempt: j.Record.Attempts, Delivered: j.Delivered}
	if sent {
		r.Attempt++
	}
	if j.Verdict != nil {
		r.Outcome, r.Reason = j.Verdict.Outcome, j.Verdict.Reason
		return r
	}
	pending := r.read(j, specs, answers)
	switch {
	case r.Outcome == Failed:
	case pending < 0:
		r.Outcome, r.Reason, r.Service = Succeeded, "", ""
	case !j.Deadline.IsZero() && !now.Before(j.Deadline):
		r.Outcome, r.Reason = Expired, ReasonDeadline
	case p.Once:
		r.Outcome = Failed
	case r.Attempt >= p.MaxAttempts:
		r.Outcome = Failed
		r.Reason = fmt.Sprintf("gave up after %d attempts: %s", r.Attempt, r.Reason)
	default:
		r.Outcome = Retrying
		r.OK = succeeded(specs, answers)
		r.Delay = p.delay(j, r.Attempt, answers, now)
	}
	return r
}

// read goes through the answers, sets Failed if a required service failed the job, and
// returns the first required service that is still missing, -1 if none is.
func (r *Ruling) read(j *Job, specs []Spec, answers Answers) (pending int) {
	pending = -1
	for i, spec := range specs {
		a := answers[i]
		switch {
		case a == nil && j.Record.HasOK(spec.Name):
		case a != nil && a.Status == StatusOK:
		case !spec.Required:
		case a != nil && a.Status == StatusFail:
			r.Outcome, r.Reason, r.Service = Failed, a.text(), spec.Name
			return i
		case pending < 0:
			pending = i
			r.Reason, r.Service = a.text(), spec.Name
		}
	}
	return pending
}

// succeeded names the services that said ok in this batch.
func succeeded(specs []Spec, answers Answers) (names []string) {
	for i, a := range answers {
		if a != nil && a.Status == StatusOK {
			names = append(names, specs[i].Name)
		}
	}
	return names
}

// text is what a person reads of an answer; a nil one was never given.
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

// delay is the back-off after an attempt, but never less than a service asked for. It does
// not reach past the job's deadline, so that the job expires on time.
func (p Policy) delay(j *Job, attempt int, answers Answers, now time.Time) time.Duration {
	d := p.Backoff(attempt)
	for _, a := range answers {
		if a != nil && a.Status == StatusRetry {
			d = max(d, min(a.RetryAfter, p.RetryMax))
		}
	}
	if !j.Deadline.IsZero() {
		d = min(d, max(j.Deadline.Sub(now), 0))
	}
	return d
}

// Missing returns the jobs that service must be called for: those without a verdict that it
// has not succeeded for yet, in their order.
func Missing(batch []*Job, service string) []*Job {
	if !slices.ContainsFunc(batch, func(j *Job) bool { return !j.wants(service) }) {
		return batch
	}
	missing := make([]*Job, 0, len(batch))
	for _, j := range batch {
		if j.wants(service) {
			missing = append(missing, j)
		}
	}
	return missing
}

func (j *Job) wants(service string) bool {
	return j.Verdict == nil && !j.Record.HasOK(service)
}
