package service

import (
	"context"
	"fmt"
	"net/http"

	"rollcall/internal/jobs"
)

// partSuffix is what the key of a part is longer than that of the whole, in bytes.
const partSuffix = 17

// split sends a call that is too large for one message in parts, one after the other. Each
// part is a call of its own, with its own key and its own tries. A part that the service refuses
// for good is halved, until the job that causes it stands alone.
//
// Where some parts fail as a whole, their jobs are to be retried and the others keep what the
// service said of them; where all do, and for one reason, so does the call, unless some were sent
// and others not. What is final is always one job's own.
func (s *Service) split(ctx context.Context, call *jobs.Call) jobs.CallResult {
	if len(call.Jobs) == 1 {
		return jobs.CallResult{Failure: tooLargeForNATS(len(call.Body), s.name)}
	}
	half := len(call.Jobs) / 2
	first, second := s.part(ctx, call, call.Jobs[:half]), s.part(ctx, call, call.Jobs[half:])
	merged := jobs.CallResult{Tries: first.Tries + second.Tries, Repeats: first.Repeats + second.Repeats}
	if alike(first, second) {
		merged.Failure = first.Failure
		return merged
	}
	merged.Replies = append(repliesOf(first, half), repliesOf(second, len(call.Jobs)-half)...)
	return merged
}

func (s *Service) part(ctx context.Context, call *jobs.Call, list []*jobs.Job) jobs.CallResult {
	part := *call
	part.Jobs = list
	part.Body = jobs.AppendCall(make([]byte, 0, jobs.CallSize(list)), list)
	part.Key = jobs.CallKey(&jobs.Batch{ID: call.BatchID, Jobs: call.Jobs}, call.Service, list)
	if !s.transport.fits(&part) {
		return s.split(ctx, &part)
	}
	whole := s.one(ctx, &part)
	if whole.Failure == nil || !whole.Failure.Final || len(list) == 1 || ctx.Err() != nil {
		return whole
	}
	halves := s.split(ctx, &part)
	halves.Tries += whole.Tries
	halves.Repeats += whole.Repeats
	return halves
}

// alike reports whether one failure says what became of both halves.
func alike(first, second jobs.CallResult) bool {
	a, b := first.Failure, second.Failure
	return a != nil && b != nil && !a.Final && !b.Final && a.Free == b.Free && a.Reason == b.Reason &&
		(first.Tries == 0) == (second.Tries == 0)
}

// repliesOf turns the failure of a part into replies for its jobs. A final failure is one job's
// own only where it stands alone.
func repliesOf(r jobs.CallResult, n int) []jobs.Reply {
	if r.Failure == nil {
		return r.Replies[:n:n]
	}
	reply := jobs.Reply{Error: jobs.Clip(r.Failure.Error(), maxErrorText), RetryAfter: r.Failure.RetryAfter, Unsent: r.Tries == 0, Free: r.Failure.Free, Group: r.Failure.NextGroup(n)}
	if r.Failure.Final && n == 1 {
		reply.Status = jobs.StatusFail
	}
	replies := make([]jobs.Reply, n)
	for i := range replies {
		replies[i] = reply
	}
	return replies
}

// tooLargeForNATS is the failure of a job that no message can carry.
func tooLargeForNATS(size int, service string) *jobs.Failure {
	return &jobs.Failure{Reason: jobs.ReasonTooLarge, Code: http.StatusRequestEntityTooLarge, Final: true,
		Err: fmt.Errorf("job of %d bytes exceeds the max_payload of the NATS server; raise it, or offer %s over HTTP", size, service)}
}
