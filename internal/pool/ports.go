package pool

import (
	"context"
	"time"

	"rollcall/internal/jobs"
)

// Source hands out deliveries.
type Source interface {
	// Receive keeps room asked for at the broker and returns the next deliveries as they
	// arrive, at least one, never more than room.Jobs. It blocks until something arrives or
	// ctx is done; then it returns the cause of ctx. From that moment on the source asks for
	// nothing more and naks whatever still arrives; one that cannot nak hands that out first.
	// Any other error is fatal to the pool.
	// The deliveries may be used until the next call.
	Receive(ctx context.Context, room jobs.Room) ([]jobs.Delivery, error)
}

// Settler takes settlements of deliveries. They are fire and forget: an error means that the
// connection is gone, and the broker will deliver again. It keeps no delivery: their memory is
// used again.
type Settler interface {
	// Ack removes jobs from their stream. Only after their end is durable.
	Ack(done ...*jobs.Delivery) error
	// Nak gives the job back, to be delivered again after delay.
	Nak(d *jobs.Delivery, delay time.Duration) error
	// Extend renews the lease.
	Extend(d *jobs.Delivery) error
}

// Ledger remembers every job and commits completion events.
type Ledger interface {
	// Load returns the records of refs, in their order.
	Load(ctx context.Context, refs []jobs.Ref) ([]jobs.Record, error)
	// Commit stores the records of a settlement and its event, all or nothing, and returns
	// when that is confirmed. Neighbours' writes to the same pages are merged. A
	// *[jobs.ConflictError] names the jobs that are already final: nothing was stored, and
	// the settlement must be rebuilt without them. Other errors mean that ctx ended first
	// and the outcome of the commit is unknown. Of a settlement that is stored nothing is kept:
	// the memory of its event, its rulings and its jobs is used again.
	Commit(ctx context.Context, s *jobs.Settlement) error
	// Mark changes the records of jobs without an event, all or nothing. Errors are those of
	// Commit.
	Mark(ctx context.Context, marks []jobs.Mark) error
}

// DeadLetters stores copies of jobs that ended badly.
type DeadLetters interface {
	// Publish returns when every letter is confirmed by the broker. A *[jobs.LettersError] names
	// those that cannot be stored for now; the others are confirmed. Other errors mean that ctx
	// ended. Publishing the same letter again is harmless.
	Publish(ctx context.Context, letters []jobs.DeadLetter) error
}

// Service is one microservice that every batch is sent to.
type Service interface {
	Name() string
	Required() bool
	// Takes reports whether the service takes jobs of a subject. It is asked at every attempt.
	Takes(subject string) bool
	// Batched reports whether the service reads the body of a call. One that is called for
	// each job alone makes its own requests of the jobs.
	Batched() bool
	// Call sends the call, with the tries and policies of the service, and reads the reply.
	// It returns when ctx is done at the latest, and keeps nothing of the call then but what
	// still reads its body: the jobs' memory is used again.
	Call(ctx context.Context, call *jobs.Call) jobs.CallResult
}

// Observer gets what happens in a pool, for metrics, traces and logs. Its methods are called from
// many goroutines and must not block. Of jobs and settlements it keeps nothing: their memory is used
// again once a batch has ended.
type Observer interface {
	// Batch begins the life of a batch; the returned function ends it. The returned context is
	// that of everything done for the batch. It may set b.Traceparent.
	Batch(ctx context.Context, b *jobs.Batch) (context.Context, func(jobs.BatchEnd))
	// Call begins a call; the returned function ends it. It may set c.Traceparent.
	Call(ctx context.Context, c *jobs.Call) (context.Context, func(*jobs.CallResult))
	// Event counts n occurrences of something that has no duration.
	Event(e jobs.Occurrence, n int)
}
