package service

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"rollcall/internal/jobs"
)

// each makes one request for every job of a call, side by side within the concurrency and the
// rate of the service. Each goes through all policies on its own.
func (s *Service) each(ctx context.Context, call *jobs.Call) jobs.CallResult {
	e := eachJob{service: s, call: call, ctx: ctx, replies: make([]jobs.Reply, len(call.Jobs))}
	e.room.Store(int64(s.cfg.MaxReply))
	s.line.join(&e)
	stop := context.AfterFunc(ctx, func() { s.line.leave(&e) })
	defer stop()
	e.open.Wait()
	if e.tries.Load() == 0 && e.unsent == len(call.Jobs) && e.first != nil {
		return jobs.CallResult{Failure: e.first}
	}
	return jobs.CallResult{Replies: e.replies, Tries: int(e.tries.Load()), Repeats: int(e.repeats.Load())}
}

// eachJob is a call in requests for single jobs.
type eachJob struct {
	service *Service
	call    *jobs.Call
	ctx     context.Context // of the call, for whoever makes its requests
	// replies has a slot for each job, written by the one goroutine that took it; open counts the jobs
	// that have none.
	replies []jobs.Reply
	open    sync.WaitGroup
	tries   atomic.Int64
	repeats atomic.Int64
	// room is how many bytes of data may still be kept, all jobs together.
	room atomic.Int64

	mu sync.Mutex
	// unsent counts the jobs for which nothing was sent and that may come back; first is why.
	unsent int
	first  *jobs.Failure
}

// one makes the request for the i-th job.
func (e *eachJob) one(i int) (reply jobs.Reply) {
	defer func() {
		// Nobody above this goroutine would recover it, and the process would end.
		if p := recover(); p != nil {
			e.service.log.Error().Str("service", e.service.name).Str("batch_id", e.call.BatchID).
				Interface("panic", p).Bytes("stack", debug.Stack()).Msg("call panicked")
			f := &jobs.Failure{Reason: jobs.ReasonPanic, Err: fmt.Errorf("the request panicked: %v", p)}
			reply = jobs.Reply{Error: f.Error()}
		}
	}()
	j := e.call.Jobs[i]
	part := *e.call
	part.Jobs, part.Body, part.Key = e.call.Jobs[i:i+1:i+1], j.Body, j.JobKey(e.service.name)
	result := e.service.one(e.ctx, &part)
	e.tries.Add(int64(result.Tries))
	e.repeats.Add(int64(result.Repeats))
	if result.Failure == nil {
		reply = result.Replies[0]
		if len(reply.Data) > 0 && e.room.Add(-int64(len(reply.Data))) < 0 {
			reply.Data = nil
		}
		return reply
	}
	f := result.Failure
	reply = jobs.Reply{
		Error: jobs.Clip(f.Error(), maxErrorText), RetryAfter: f.RetryAfter, Free: f.Free,
		Unsent: result.Tries == 0,
	}
	if f.Final {
		reply.Status = jobs.StatusFail
		return reply
	}
	if reply.Unsent {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.unsent++; e.first == nil {
			e.first = f
		}
	}
	return reply
}

// one sends one request, or says why there is none.
func (s *Service) one(ctx context.Context, call *jobs.Call) jobs.CallResult {
	r, failure := s.transport.prepare(call)
	if failure != nil {
		return jobs.CallResult{Failure: failure}
	}
	result := s.policies.run(ctx, s, r)
	result.BodyRead = r.reading.Load() == 0
	return result
}
