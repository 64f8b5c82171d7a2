package bus

import (
	"sync"
	"time"

	"github.com/rs/zerolog"
)

const (
	// clockSamples are kept to choose the best from.
	clockSamples = 8
	// clockDrift is by what part of the time that passes two clocks may drift apart: what a sample
	// leaves open grows by it.
	clockDrift = 1.0 / 10_000
	// clockStep is how far the wall clock may move against the monotonic one before the samples
	// from before count as taken by another clock.
	clockStep = time.Second
	// skewBearable is the skew above which the log says so.
	skewBearable = 2 * time.Second
)

// Clock estimates the clock of the broker from the times that its replies carry. Jobs are dated
// by it, so their ages and every relative time are judged by it too; the clock of this machine
// may be wrong. It is safe for concurrent use.
type Clock struct {
	log zerolog.Logger
	// now is this machine's clock.
	now func() time.Time

	mu      sync.Mutex
	samples []clockSample
	// warned is set while the skew is above what is bearable.
	warned bool
}

// clockSample says that the broker's clock was offset ahead of ours at a moment, give or take
// margin.
type clockSample struct {
	at             time.Time
	offset, margin time.Duration
}

// NewClock returns a clock that has seen no reply yet. now is this machine's clock.
func NewClock(log zerolog.Logger, now func() time.Time) *Clock { return &Clock{log: log, now: now} }

// Observe takes in a reply that the broker stamped between the moments when it was asked for
// and received, both by our clock.
func (c *Clock) Observe(asked, stamped, received time.Time) {
	if stamped.IsZero() {
		return
	}
	took := received.Sub(asked)
	sample := clockSample{at: received, offset: stamped.Sub(asked.Round(0).Add(took / 2)), margin: took / 2}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.samples) == clockSamples {
		c.samples = append(c.samples[:0], c.samples[1:]...)
	}
	c.samples = append(c.samples, sample)
	skew, _ := c.skew()
	switch bad := skew.Abs() > skewBearable; {
	case bad && !c.warned:
		c.log.Warn().Stringer("ahead", -skew.Round(time.Millisecond)).
			Msg("the clock of this machine differs from the broker's; relative times go by the broker's, set this one right")
		c.warned = true
	case !bad && c.warned:
		c.log.Info().Msg("the clock of this machine agrees with the broker's again")
		c.warned = false
	}
}

// Skew returns how far the broker's clock is ahead of ours, by the reply that leaves the least open:
// one that took little time, not long ago. It returns false if there is none. A skew of less than half of the time
// that the reply took cannot be measured and counts as none.
func (c *Clock) Skew() (ahead time.Duration, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.skew()
}

func (c *Clock) skew() (time.Duration, bool) {
	now := c.now()
	var best *clockSample
	var least time.Duration
	for i := range c.samples {
		s := &c.samples[i]
		passed := now.Sub(s.at)
		if stepped := now.Round(0).Sub(s.at.Round(0)) - passed; stepped.Abs() > clockStep {
			continue
		}
		if open := s.margin + time.Duration(float64(passed)*clockDrift); best == nil || open <= least {
			best, least = s, open
		}
	}
	switch {
	case best == nil:
		return 0, false
	case best.offset.Abs() <= best.margin:
		return 0, true
	default:
		return best.offset, true
	}
}

// Now returns the time by the broker's clock; by ours where nothing is known of the broker's.
func (c *Clock) Now() time.Time {
	ahead, _ := c.Skew()
	return c.now().Round(0).Add(ahead)
}

// Clock returns the estimate of the broker's clock. It learns from every look at a stream or a
// consumer; a worker looks at its own every few seconds.
func (c *Conn) Clock() *Clock { return c.clock }
