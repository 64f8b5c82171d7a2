package pool

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"rollcall/internal/jobs"
)

// maxReasonText bounds what a failed call may say about each of its jobs, in bytes.
const maxReasonText = 256

// column is what one service did for a batch: its slot of the result matrix.
type column struct {
	// answers has one entry for each job of the batch, nil where it was not called for.
	answers []*jobs.Reply
	// sent tells that at least one request left this process.
	sent     bool
	tries    int
	duration time.Duration
	err      string
}

// fanOut calls every service at once for the jobs it is still missing, one goroutine each
// under one WaitGroup, and returns their columns in the order of the services.
func (w *worker) fanOut(ctx context.Context, b *jobs.Batch) []column {
	columns := make([]column, len(w.services))
	var encoded bodies
	var wg sync.WaitGroup
	for i, service := range w.services {
		missing := jobs.Missing(b.Jobs, service.Name())
		if len(missing) == 0 {
			continue
		}
		var body []byte
		if service.Batched() {
			body = encoded.of(missing)
		}
		wg.Go(func() {
			a := asking{worker: w, service: service, batch: b, column: &columns[i]}
			a.answer(ctx, missing, body)
		})
	}
	wg.Wait()
	return columns
}

// bodies are the encoded calls of one batch. Most services miss the same jobs and share one.
type bodies struct {
	parts [][]*jobs.Job
	texts [][]byte
}

func (b *bodies) of(part []*jobs.Job) []byte {
	for i, known := range b.parts {
		if slices.Equal(known, part) {
			return b.texts[i]
		}
	}
	text := encodeBody(part)
	b.parts, b.texts = append(b.parts, part), append(b.texts, text)
	return text
}

// encodeBody makes the body of a call. It is never used again: net/http may still be reading
// it when a call that was cut short has returned.
func encodeBody(part []*jobs.Job) []byte {
	return jobs.AppendCall(make([]byte, 0, jobs.CallSize(part)), part)
}

// asking is the conversation with one service about one batch.
type asking struct {
	worker  *worker
	service Service
	batch   *jobs.Batch
	column  *column
}

// answer fills the column. body is the encoded call for missing, nil if the service reads none.
func (a *asking) answer(ctx context.Context, missing []*jobs.Job, body []byte) {
	start := time.Now()
	a.column.answers = make([]*jobs.Reply, len(a.batch.Jobs))
	a.ask(ctx, missing, body, 0)
	a.column.duration = time.Since(start)
	a.worker.probe(pointFirstReply)
}

// ask calls the service for part, whose first job stands at or behind position from in the
// batch. Where the service refuses several jobs for good, one of them may have caused it: ask
// halves the part, so that the culprit ends up alone after log₂ steps.
func (a *asking) ask(ctx context.Context, part []*jobs.Job, body []byte, from int) (next int) {
	if body == nil && a.service.Batched() {
		body = encodeBody(part)
	}
	result := a.call(ctx, part, body)
	a.column.tries += result.Tries
	a.column.sent = a.column.sent || result.Tries > 0
	failure := result.Failure
	if failure == nil {
		return a.place(part, from, func(i int) *jobs.Reply { return &result.Replies[i] })
	}
	if failure.Final && len(part) > 1 && ctx.Err() == nil {
		half := len(part) / 2
		from = a.ask(ctx, part[:half], nil, from)
		return a.ask(ctx, part[half:], nil, from)
	}
	text := jobs.Clip(failure.Error(), maxReasonText)
	a.column.err = text
	reply := &jobs.Reply{Status: jobs.StatusRetry, Error: text, RetryAfter: failure.RetryAfter, Free: failure.Free}
	if failure.Final {
		reply.Status = jobs.StatusFail
	}
	return a.place(part, from, func(int) *jobs.Reply { return reply })
}

// place writes the replies for part into the column; both stand in the order of the batch.
func (a *asking) place(part []*jobs.Job, from int, reply func(i int) *jobs.Reply) (next int) {
	for i, j := range part {
		for a.batch.Jobs[from] != j {
			from++
		}
		a.column.answers[from] = reply(i)
		from++
	}
	return from
}

// call makes one call. A panic in it, and a result of the wrong shape, are that call's failure.
func (a *asking) call(ctx context.Context, part []*jobs.Job, body []byte) (result jobs.CallResult) {
	c := &jobs.Call{
		BatchID: a.batch.ID, Pool: a.batch.Pool, Service: a.service.Name(),
		Key: jobs.CallKey(a.batch, a.service.Name(), part), Jobs: part, Body: body,
		Traceparent: a.batch.Traceparent,
	}
	ctx, done := a.worker.observer.Call(ctx, c)
	defer func() {
		// Most panics are recovered by the service, whose permits only a return gives back.
		if f := result.Failure; f != nil && f.Reason == jobs.ReasonPanic {
			a.worker.observer.Event(jobs.Panics, 1)
		}
		done(&result)
	}()
	defer func() {
		if p := recover(); p != nil {
			a.worker.log.Error().Str("service", c.Service).Str("batch_id", c.BatchID).
				Interface("panic", p).Bytes("stack", debug.Stack()).Msg("call panicked")
			result = jobs.CallResult{Tries: 1, Failure: &jobs.Failure{Reason: jobs.ReasonPanic, Err: fmt.Errorf("the call panicked: %v", p)}}
		}
	}()
	a.worker.probe(pointBeforeCall)
	result = a.service.Call(ctx, c)
	if result.Failure == nil && len(result.Replies) != len(part) {
		result.Failure = &jobs.Failure{
			Reason: jobs.ReasonBadResponse,
			Err:    fmt.Errorf("%d replies for %d jobs", len(result.Replies), len(part)),
		}
	}
	return result
}
