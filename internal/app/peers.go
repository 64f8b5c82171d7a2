package app

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"rollcall/internal/jobs"
	"rollcall/internal/web"
)

const (
	// peersTimeout bounds one round of questions to the other replicas.
	peersTimeout = 10 * time.Second
	// agreementEvery is how often the replicas' digests are compared, give or take a fifth, so
	// that the replicas of a pool do not ask all at once.
	agreementEvery = 20 * time.Second
	// warnEvery is how often a replica repeats that the pool is mixed.
	warnEvery = 10 * time.Minute
	// maxDifferences bounds what one line of the log lists.
	maxDifferences = 10
)

// roll is who can be asked for the replicas of the pool.
type roll interface {
	// Digests returns the digest of the settings of each replica, by its name.
	Digests(ctx context.Context) (map[string]string, error)
	Replicas(ctx context.Context) ([]jobs.ReplicaState, error)
}

// peers knows the other replicas of the pool, as they report themselves over NATS: whether
// they have the same settings, all the time, and how they are, while somebody looks at the page.
type peers struct {
	broker checked
	roll   roll
	log    zerolog.Logger
	digest string
	// wanted holds one token while somebody waits for a fresh reply.
	wanted chan struct{}
	// warned is when a mix was logged last; zero while there is none. Only run uses it.
	warned time.Time

	mu  sync.Mutex
	now web.Peers
}

func newPeers(broker checked, roll roll, digest string, log zerolog.Logger) *peers {
	return &peers{broker: broker, roll: roll, digest: digest, log: log, wanted: make(chan struct{}, 1)}
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

// mixed reports whether the replicas of the pool have different settings.
func (p *peers) mixed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.now.Mixed) > 0
}

// run compares the replicas' settings now and then, and asks how they are whenever somebody
// wants to know, until ctx is done.
func (p *peers) run(ctx context.Context) error {
	tick := time.NewTimer(time.Duration(rand.Int64N(int64(agreementEvery / 4)))) //nolint:gosec // a delay is no secret
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.wanted:
			p.renew(ctx)
		case <-tick.C:
			p.compare(ctx)
			tick.Reset(agreementEvery*4/5 + time.Duration(rand.Int64N(int64(agreementEvery*2/5)))) //nolint:gosec // a delay is no secret
		}
	}
}

// compare asks for the digests, and for more only if they differ.
func (p *peers) compare(ctx context.Context) {
	asking, cancel := context.WithTimeout(ctx, peersTimeout)
	defer cancel()
	if p.broker.Healthy() != nil {
		return // nobody can know
	}
	digests, err := p.roll.Digests(asking)
	if err != nil || len(digests) == 0 {
		return // the page says why
	}
	for _, digest := range digests {
		if digest != "" && digest != p.digest {
			p.renew(ctx)
			return
		}
	}
	p.mu.Lock()
	p.now.Mixed = nil
	p.mu.Unlock()
	p.report(nil)
}

var errNoAnswer = errors.New("no replica answered, this one neither; does the NATS user lack the right to publish $SRV.PING.rollcall?")

// renew asks every replica how it is.
func (p *peers) renew(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, peersTimeout)
	defer cancel()
	err := p.broker.Healthy()
	var replicas []jobs.ReplicaState
	if err == nil {
		replicas, err = p.roll.Replicas(ctx)
	}
	if err == nil && len(replicas) == 0 {
		err = errNoAnswer // this one is a replica too
	}
	p.mu.Lock()
	if err != nil {
		p.now.Error = err.Error()
		p.mu.Unlock()
		return
	}
	slices.SortFunc(replicas, func(a, b jobs.ReplicaState) int { return strings.Compare(a.Replica, b.Replica) })
	differences := jobs.Differences(replicas)
	p.now = web.Peers{Replicas: replicas, ReadAt: time.Now(), Mixed: differences}
	p.mu.Unlock()
	p.report(differences)
}

// report logs that the replicas differ, at once and then now and then while that lasts, and
// that they agree again.
func (p *peers) report(differences []jobs.Difference) {
	switch {
	case len(differences) == 0 && !p.warned.IsZero():
		p.warned = time.Time{}
		p.log.Info().Msg("the replicas of this pool have the same settings again")
	case len(differences) > 0 && time.Since(p.warned) >= warnEvery:
		p.warned = time.Now()
		lines := make([]string, 0, maxDifferences)
		for _, d := range differences[:min(len(differences), maxDifferences)] {
			lines = append(lines, d.String())
		}
		p.log.Warn().Strs("differences", lines).Msg("the replicas of this pool have different settings: what a job needs depends on which of them takes it")
	}
}
