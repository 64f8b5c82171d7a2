package service

import (
	"slices"
	"sync"
)

// line is the calls of one service that are made in requests for single jobs, and the goroutines that
// send these, as many as there may be requests at once, for all calls together. The oldest call comes
// first. So next to nobody waits for a permit, a batch ends as early as it can, and a goroutine lasts
// for many requests. It ends when nobody is in line; whoever waits for the calls waits for their
// requests.
type line struct {
	mu sync.Mutex
	// calls have jobs that nobody has taken; next is the index of the first one's next job.
	calls   []*eachJob
	next    int
	senders int
}

// join puts a call at the end of the line. Each of its jobs is done once e.open says so.
func (l *line) join(e *eachJob) {
	if len(e.call.Jobs) == 0 {
		return
	}
	e.open.Add(len(e.call.Jobs))
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls = append(l.calls, e)
	l.help(e.service, len(e.call.Jobs))
}

// leave ends a call whose context is done: what nobody has taken of it waits for no sender.
func (l *line) leave(e *eachJob) {
	l.mu.Lock()
	at := slices.Index(l.calls, e)
	from := len(e.call.Jobs)
	if at >= 0 {
		l.calls = slices.Delete(l.calls, at, at+1)
		from = 0
	}
	if at == 0 {
		from, l.next = l.next, 0
	}
	l.mu.Unlock()
	for i := from; i < len(e.call.Jobs); i++ {
		e.replies[i] = e.one(i)
		e.open.Done()
	}
}

// help starts up to n senders more, if the service may be sent so much at once. The caller holds the
// lock.
func (l *line) help(s *Service, n int) {
	for room := max(s.policies.limit(), 1) - l.senders; n > 0 && room > 0; n, room = n-1, room-1 {
		l.senders++
		go l.send()
	}
}

// send makes one request after the other until nobody is in line.
func (l *line) send() {
	for {
		e, i := l.take()
		if e == nil {
			return
		}
		e.replies[i] = e.one(i)
		e.open.Done()
	}
}

// take returns the next job in line, nil if there is none for this sender.
func (l *line) take() (*eachJob, int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.calls) == 0 {
		l.senders--
		return nil, 0
	}
	e, i := l.calls[0], l.next
	if l.next++; l.next == len(e.call.Jobs) {
		l.calls[0] = nil
		l.calls, l.next = l.calls[1:], 0
	}
	if len(l.calls) > 0 {
		l.help(e.service, 1) // an adaptive limit may have grown
	}
	return e, i
}
