package pool

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"rollcall/internal/jobs"
)

const (
	// maxReasonText bounds what a failed call may say about each of its jobs, in bytes.
	maxReasonText = 256
	// maxParts bounds how many parts of a batch one service is called for at once.
	maxParts = 8
)

// serviceResult is what one service did for a batch: one column of the matrix of replies.
type serviceResult struct {
	// replies has one entry for each job of the batch, nil where it was not called for.
	replies  []*jobs.Reply
	duration time.Duration

	mu    sync.Mutex
	tries int
	err   string
}

// part is a call to be made: the jobs at these positions of the batch.
type part []int

// request is a part with its encoded body, nil for a service that reads none.
type request struct {
	part part
	body *body
}

// fanOut calls every service at once for the jobs it is still missing, one goroutine each
// under one WaitGroup, and returns their results in the order of the services.
func (x *executor) fanOut(ctx context.Context, b *jobs.Batch) []serviceResult {
	results := make([]serviceResult, len(x.services))
	encoded := bodies{buffers: &x.bodies}
	var wg sync.WaitGroup
	for i, service := range x.services {
		parts := divide(b.Jobs, x.missing(b.Jobs, i))
		if len(parts) == 0 {
			continue
		}
		c := &caller{executor: x, service: service, batch: b, out: &results[i]}
		c.out.replies = make([]*jobs.Reply, len(b.Jobs))
		requests := make([]request, len(parts))
		for n, p := range parts {
			requests[n].part = p
			if service.Batched() {
				requests[n].body = encoded.of(c.jobs(p))
			}
		}
		wg.Go(func() {
			defer c.rescue(requests[0].part) // of several, each has a rescue of its own
			start := time.Now()
			c.askAll(ctx, requests)
			c.out.duration = time.Since(start)
			x.probe(pointFirstReply)
		})
	}
	wg.Wait()
	encoded.free()
	return results
}

// missing returns the positions of the jobs that a service has to be called for.
func (x *executor) missing(members []*jobs.Job, service int) part {
	missing := make(part, 0, len(members))
	for i, j := range members {
		if j.Wants(service, x.specs[service].Name) {
			missing = append(missing, i)
		}
	}
	return missing
}

// divide makes the calls for the missing jobs: one for all, except for those of which an earlier
// call failed as a whole. They are called for in groups of the size they are bound to.
func divide(members []*jobs.Job, missing part) (parts []part) {
	if len(missing) == 0 {
		return nil
	}
	if !slices.ContainsFunc(missing, func(i int) bool { return members[i].Record.Group > 0 }) {
		return []part{missing}
	}
	open := map[int]int{} // by bound, the index of the part that still has room
	for _, i := range missing {
		bound := members[i].Record.Group
		n, found := open[bound]
		if !found || bound > 0 && len(parts[n]) >= bound {
			n = len(parts)
			parts = append(parts, nil)
			open[bound] = n
		}
		parts[n] = append(parts[n], i)
	}
	return parts
}

// caller is the conversation with one service about one batch.
type caller struct {
	executor *executor
	service  Service
	batch    *jobs.Batch
	out      *serviceResult
}

// askAll makes the calls side by side, at most maxParts at a time.
func (c *caller) askAll(ctx context.Context, requests []request) {
	if len(requests) == 1 {
		c.ask(ctx, requests[0].part, requests[0].body)
		return
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, maxParts)
	for _, r := range requests {
		slots <- struct{}{}
		wg.Go(func() {
			defer c.rescue(r.part)
			defer func() { <-slots }()
			c.ask(ctx, r.part, r.body)
		})
	}
	wg.Wait()
}

// ask calls the service for a part. Where the service refuses several jobs for good, one of them
// may have caused it: ask halves the part, so that the culprit ends up alone after log₂ steps.
// Where a call fails as a whole and may be tried again, that may be one job's doing as well: its
// jobs come back in halves.
//
// A call that is cut because one of its jobs was cancelled is made again at once for the others.
func (c *caller) ask(ctx context.Context, p part, encoded *body) {
	if rest := c.open(p); len(rest) < len(p) {
		p, encoded = rest, nil
	}
	if len(p) == 0 {
		return
	}
	members := c.jobs(p)
	if encoded == nil && c.service.Batched() {
		encoded = &body{text: jobs.AppendCall(make([]byte, 0, jobs.CallSize(members)), members)}
	}
	result, cut := c.watched(ctx, members, encoded)
	if cut {
		c.note(result.Tries, "")
		if ctx.Err() == nil {
			c.ask(ctx, p, nil)
		}
		return
	}
	failure := result.Failure
	if failure != nil && failure.Final && len(p) > 1 && ctx.Err() == nil {
		c.note(result.Tries, "")
		half := len(p) / 2
		c.ask(ctx, p[:half], nil)
		c.ask(ctx, p[half:], nil)
		return
	}
	if failure == nil {
		c.note(result.Tries, c.failedRequest(result.Replies))
		for k, i := range p {
			c.out.replies[i] = &result.Replies[k]
		}
		return
	}
	reply := failed(failure, len(p))
	reply.Unsent = result.Tries == 0
	c.note(result.Tries, reply.Error)
	c.answer(p, reply)
}

// failedRequest returns why the first of the requests for single jobs failed, empty if none did or the service takes
// batches: what a batch says of its jobs is about them.
func (c *caller) failedRequest(replies []jobs.Reply) string {
	if c.service.Batched() {
		return ""
	}
	for i := range replies {
		if r := &replies[i]; r.Status != jobs.StatusOK && r.Error != "" {
			return r.Error
		}
	}
	return ""
}

// watched makes a call, and reports whether it was cut because one of its jobs was cancelled.
func (c *caller) watched(ctx context.Context, members []*jobs.Job, encoded *body) (result jobs.CallResult, cut bool) {
	ctx, done := c.executor.cancelled.watch(ctx, members)
	defer done() // whatever panics: nobody may watch jobs that are another's by then
	result = c.call(ctx, members, encoded)
	return result, result.Failure != nil && errors.Is(context.Cause(ctx), errCancelled)
}

// failed makes a reply of a call for n jobs that failed as a whole.
func failed(f *jobs.Failure, n int) *jobs.Reply {
	reply := &jobs.Reply{
		Status: jobs.StatusRetry, Error: jobs.Clip(f.Error(), maxReasonText), RetryAfter: f.RetryAfter,
		Free: f.Free, Group: f.NextGroup(n),
	}
	if f.Final {
		reply.Status = jobs.StatusFail
	}
	return reply
}

// answer writes one reply for every job of a part.
func (c *caller) answer(p part, reply *jobs.Reply) {
	for _, i := range p {
		c.out.replies[i] = reply
	}
}

// note counts tries, and keeps the last error of the service.
func (c *caller) note(tries int, err string) {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	c.out.tries += tries
	if err != "" {
		c.out.err = err
	}
}

// open returns the part without the jobs that were cancelled.
func (c *caller) open(p part) (rest part) {
	marked := c.executor.cancelled.mark(c.jobs(p))
	if marked == nil {
		return p
	}
	for k, i := range p {
		if !marked[k] {
			rest = append(rest, i)
		}
	}
	return rest
}

func (c *caller) jobs(p part) []*jobs.Job {
	if len(p) == len(c.batch.Jobs) {
		return c.batch.Jobs
	}
	members := make([]*jobs.Job, len(p))
	for k, i := range p {
		members[k] = c.batch.Jobs[i]
	}
	return members
}

// rescue makes a panic around a call the failure of its part.
func (c *caller) rescue(p part) {
	v := recover()
	if v == nil {
		return
	}
	reply := failed(c.panicked(v), max(len(p), 1))
	c.note(0, reply.Error)
	c.answer(p, reply)
}

// panicked logs a panic and makes a failure of it.
func (c *caller) panicked(v any) *jobs.Failure {
	c.executor.log.Error().Str("service", c.service.Name()).Str("batch_id", c.batch.ID).
		Interface("panic", v).Bytes("stack", debug.Stack()).Msg("call panicked")
	return &jobs.Failure{Reason: jobs.ReasonPanic, Err: fmt.Errorf("the call panicked: %v", v)}
}

// call makes one call. A panic in it, and a result of the wrong shape, are that call's failure.
func (c *caller) call(ctx context.Context, members []*jobs.Job, encoded *body) (result jobs.CallResult) {
	request := &jobs.Call{
		BatchID: c.batch.ID, Pool: c.batch.Pool, Service: c.service.Name(),
		Key: jobs.CallKey(c.batch, c.service.Name(), members), Jobs: members,
		Traceparent: c.batch.Traceparent,
	}
	if encoded != nil {
		request.Body = encoded.text
		encoded.readers.Add(1)
		defer func() {
			if result.BodyRead {
				encoded.readers.Add(-1)
			}
		}()
	}
	ctx, done := c.executor.observer.Call(ctx, request)
	defer func() {
		// Most panics are recovered by the service, whose permits only a return gives back.
		if f := result.Failure; f != nil && f.Reason == jobs.ReasonPanic {
			c.executor.observer.Event(jobs.Panics, 1)
		}
		done(&result)
	}()
	defer func() {
		if v := recover(); v != nil {
			result = jobs.CallResult{Tries: 1, Failure: c.panicked(v)}
		}
	}()
	c.executor.probe(pointBeforeCall)
	result = c.service.Call(ctx, request)
	if result.Failure == nil && len(result.Replies) != len(members) {
		result.Failure = &jobs.Failure{
			Reason: jobs.ReasonBadResponse,
			Err:    fmt.Errorf("%d replies for %d jobs", len(result.Replies), len(members)),
		}
	}
	return result
}
