package app

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"rollcall/internal/jobs"
	"rollcall/internal/web"
)

var errNoAnswer = errors.New("no replica answered, this one neither; does the NATS user lack the right to publish $SRV.PING.rollcall?")

// peers knows the other replicas of the pool, as they report themselves over NATS. They are
// asked while somebody looks at the page.
type peers struct {
	broker checked
	ask    func(context.Context) ([]jobs.ReplicaState, error)
	// wanted holds one token while somebody waits for a fresh answer.
	wanted chan struct{}

	mu  sync.Mutex
	now web.Peers
}

func newPeers(broker checked, ask func(context.Context) ([]jobs.ReplicaState, error)) *peers {
	return &peers{broker: broker, ask: ask, wanted: make(chan struct{}, 1)}
}

// last returns what is known, and has it renewed if that is older than [stateAge]. It does not
// wait: asking takes as long as the slowest replica.
func (p *peers) last() web.Peers {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.now.ReadAt) >= stateAge {
		select {
		case p.wanted <- struct{}{}:
		default:
		}
	}
	return p.now
}

// run asks whenever somebody wants to know, until ctx is done.
func (p *peers) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.wanted:
		}
		p.renew(ctx)
	}
}

// renew asks every replica once.
func (p *peers) renew(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, peersTimeout)
	defer cancel()
	err := p.broker.Healthy()
	var replicas []jobs.ReplicaState
	if err == nil {
		replicas, err = p.ask(ctx)
	}
	if err == nil && len(replicas) == 0 {
		err = errNoAnswer // this one is a replica too
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.now.Error = err.Error()
		return
	}
	slices.SortFunc(replicas, func(a, b jobs.ReplicaState) int { return strings.Compare(a.Replica, b.Replica) })
	p.now.Replicas, p.now.ReadAt, p.now.Error = replicas, time.Now(), ""
}
