package jobs

import (
	"slices"
	"strconv"
	"time"
)

// Ruling is what became of one job in a batch, and what the ledger and the event are to say
// about it.
type Ruling struct {
	Outcome Outcome
	// Attempt is the number of this dispatch, counting from 1; 0 if none was ever sent.
	Attempt int
	// Burnt means that this batch counted as an attempt of the job.
	Burnt bool
	// Reason is empty for a job that succeeded.
	Reason string
	// Service is the one that decided a failure or asked for the retry, empty if none.
	Service string
	// Delivered is the delivery that ended so.
	Delivered int
	// Group is how many jobs the next call for this one may hold, 0 = any number; for Retrying only.
	Group int
	// Lone is how many lone runs without an end stay on record; for Retrying only.
	Lone int
	// OK names the services that succeeded for the job in this batch; for Retrying only.
	OK []string
	// Delay to wait before the job comes back; for Retrying only.
	Delay time.Duration
}

// Settlement is a batch with everything that became of it: the unit that the ledger commits.
type Settlement struct {
	Batch *Batch
	// Rulings has one entry for each of Batch.Jobs.
	Rulings []Ruling
	// Services has one entry for each service of the pool, in its order.
	Services []ServiceReport
	// Replies holds, by job and then by service, the replies in this batch.
	Replies []Replies
	// SettledAt is by the broker's clock.
	SettledAt time.Time
	// Took is how long the batch had been sealed by then.
	Took time.Duration
	// Truncated means that the services' data was too large for any event and is gone.
	Truncated bool
	// NoData keeps the services' data out of the event, because somebody wants it so.
	NoData bool
	// Outcome of the whole batch: the word in the event's subject.
	Outcome BatchOutcome
	// Event is the encoded completion event, nil once it is stored.
	Event []byte
}

// Idle reports whether nothing was learnt of any job: none is final, no service succeeded, no
// attempt was burnt. Such a batch has no event; its jobs wait, and an outage of a service leaves
// no trail of empty events.
func (s *Settlement) Idle() bool {
	return !slices.ContainsFunc(s.Rulings, func(r Ruling) bool {
		return r.Outcome.Final() || r.Burnt || len(r.OK) > 0
	})
}

// DataSize returns how many bytes of data the services' replies carry.
func (s *Settlement) DataSize() (n int64) {
	for _, replies := range s.Replies {
		for _, a := range replies {
			if a != nil {
				n += int64(len(a.Data))
			}
		}
	}
	return n
}

// DropData forgets the services' data, which the event will say.
func (s *Settlement) DropData() {
	s.Truncated = true
	for _, replies := range s.Replies {
		for k, a := range replies {
			if a != nil && len(a.Data) > 0 {
				bare := *a
				bare.Data = nil
				replies[k] = &bare
			}
		}
	}
}

// BatchOutcome is the outcome of a whole batch.
type BatchOutcome string

// Succeeded: all jobs. Failed: every job final, none succeeded. Partial: anything else.
const (
	BatchSucceeded BatchOutcome = "succeeded"
	BatchFailed    BatchOutcome = "failed"
	BatchPartial   BatchOutcome = "partial"
)

// BatchResult says how the life of a batch ended in this process.
type BatchResult string

// Every batch ends in one of these ways.
const (
	// BatchCommitted: its event is stored.
	BatchCommitted BatchResult = "committed"
	// BatchSuperseded: other replicas had finished all of its jobs.
	BatchSuperseded BatchResult = "superseded"
	// BatchWaiting: nothing was learnt of its jobs; they wait and come back, without an event.
	BatchWaiting BatchResult = "waiting"
	// BatchAborted: given up without a record; the broker delivers its jobs again.
	BatchAborted BatchResult = "aborted"
)

// BatchEnd is how a batch ended, with what was committed: nil for every result but BatchCommitted.
type BatchEnd struct {
	Result     BatchResult
	Settlement *Settlement
}

// Counts are the numbers of jobs of a batch by outcome.
type Counts struct {
	Total     int `json:"total"`
	Succeeded int `json:"succeeded"`
	Failed    int `json:"failed"`
	Expired   int `json:"expired"`
	Invalid   int `json:"invalid"`
	Cancelled int `json:"cancelled"`
	Retrying  int `json:"retrying"`
}

// Dead returns how many jobs ended in a dead letter: failed, expired and invalid ones.
func (c *Counts) Dead() int { return c.Failed + c.Expired + c.Invalid }

// Count tallies rulings.
func Count(rulings []Ruling) Counts {
	c := Counts{Total: len(rulings)}
	for i := range rulings {
		switch rulings[i].Outcome {
		case Succeeded:
			c.Succeeded++
		case Failed:
			c.Failed++
		case Expired:
			c.Expired++
		case Invalid:
			c.Invalid++
		case Cancelled:
			c.Cancelled++
		case Retrying:
			c.Retrying++
		}
	}
	return c
}

// Outcome names the outcome of the whole batch.
func (c Counts) Outcome() BatchOutcome {
	switch {
	case c.Succeeded == c.Total:
		return BatchSucceeded
	case c.Succeeded == 0 && c.Retrying == 0:
		return BatchFailed
	default:
		return BatchPartial
	}
}

// ConflictError reports that a commit was refused because some of its jobs are already final.
type ConflictError struct {
	// Final has one entry for each job of the settlement.
	Final []bool
}

// Error implements error.
func (e *ConflictError) Error() string {
	n := 0
	for _, f := range e.Final {
		if f {
			n++
		}
	}
	return "commit refused: " + strconv.Itoa(n) + " of " + strconv.Itoa(len(e.Final)) + " jobs are already final"
}

// Without returns a settlement of the jobs that are not marked, with an event still to be
// encoded, and the marked jobs. The receiver is left as it was.
func (s *Settlement) Without(marked []bool) (rest *Settlement, dropped []*Job) {
	batch, dropped := s.Batch.Without(marked)
	rest = &Settlement{Batch: batch, Services: slices.Clone(s.Services), SettledAt: s.SettledAt, Took: s.Took, Truncated: s.Truncated}
	for i := range s.Batch.Jobs {
		if marked[i] {
			continue
		}
		rest.Rulings = append(rest.Rulings, s.Rulings[i])
		rest.Replies = append(rest.Replies, s.Replies[i])
	}
	return rest, dropped
}
