package devkit

import (
	"slices"
	"sync"

	"rollcall/internal/history"
)

// Journal notes the calls that one service answered, for [history.History]. It grows with
// every call, so it is for runs with an end. It is safe for concurrent use; a nil Journal
// notes nothing.
type Journal struct {
	service string
	mu      sync.Mutex
	calls   []history.Call
}

// NewJournal returns the journal of the service that the pool knows by this name.
func NewJournal(service string) *Journal { return &Journal{service: service} }

func (j *Journal) note(call *Call) {
	if j == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for i := range call.Jobs {
		job := &call.Jobs[i]
		j.calls = append(j.calls, history.Call{
			Service: j.service, UID: job.UID, ID: job.ID, Source: job.Source, Received: call.Received,
		})
	}
}

// Calls returns what was noted so far.
func (j *Journal) Calls() []history.Call {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.calls)
}
