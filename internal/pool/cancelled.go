package pool

import (
	"context"
	"errors"
	"slices"
	"sync"

	"rollcall/internal/jobs"
)

// maxCancelled bounds the cancelled jobs that are remembered. A forgotten one is still refused at its
// commit.
const maxCancelled = 1 << 17

// errCancelled ends calls for jobs that were cancelled.
var errCancelled = errors.New("a job of the call was cancelled")

// cancelled are jobs that are final already, because somebody cancelled them.
type cancelled struct {
	mu sync.Mutex
	// young and old are two generations: when the young one is full it becomes the old one.
	young, old map[jobs.Ref]struct{}
	calls      map[*watchedCall]struct{}
}

// watchedCall is a call under way.
type watchedCall struct {
	members []*jobs.Job
	cut     context.CancelCauseFunc
}

func newCancelled() *cancelled { return &cancelled{calls: map[*watchedCall]struct{}{}} }

// add remembers jobs and cuts the calls under way for them.
func (c *cancelled) add(refs []jobs.Ref) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ref := range refs {
		if c.young == nil || len(c.young) >= maxCancelled/2 {
			c.young, c.old = make(map[jobs.Ref]struct{}), c.young
		}
		c.young[ref] = struct{}{}
	}
	for call := range c.calls {
		if slices.ContainsFunc(call.members, c.has) {
			call.cut(errCancelled)
		}
	}
}

// has wants the lock held.
func (c *cancelled) has(j *jobs.Job) bool {
	if _, found := c.young[j.Ref]; found {
		return true
	}
	_, found := c.old[j.Ref]
	return found
}

// mark marks those of members that are cancelled. It returns nil if none is.
func (c *cancelled) mark(members []*jobs.Job) (marked []bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.young) == 0 && len(c.old) == 0 {
		return nil
	}
	for i, j := range members {
		if !c.has(j) {
			continue
		}
		if marked == nil {
			marked = make([]bool, len(members))
		}
		marked[i] = true
	}
	return marked
}

// watch returns the context of a call for members, which is cut when one of them is cancelled.
// done must be called when the call has ended.
func (c *cancelled) watch(ctx context.Context, members []*jobs.Job) (watched context.Context, done func()) {
	ctx, cut := context.WithCancelCause(ctx)
	call := &watchedCall{members: members, cut: cut}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls[call] = struct{}{}
	if len(c.young)+len(c.old) > 0 && slices.ContainsFunc(members, c.has) {
		cut(errCancelled)
	}
	return ctx, func() {
		c.mu.Lock()
		delete(c.calls, call)
		c.mu.Unlock()
		cut(nil)
	}
}

// forget forgets every job.
func (c *cancelled) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.young, c.old = nil, nil
}

// Restart forgets which jobs were cancelled, after the broker's data was set back: their numbers may
// be those of other jobs.
func (p *Pool) Restart() { p.cancelled.forget() }

// Cancel drops jobs that somebody cancelled: they are final in the ledger. Calls under way for
// them are cut, and none begins later. Other jobs of such a call are called for again at once.
func (p *Pool) Cancel(refs []jobs.Ref) { p.cancelled.add(refs) }
