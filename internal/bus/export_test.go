package bus

import (
	"time"

	"github.com/nats-io/nats.go"

	"rollcall/internal/jobs"
	"rollcall/internal/ledger"
)

// AckReply is ackReply for the tests.
type AckReply struct {
	Delivered, StreamSeq, ConsumerSeq uint64
	Published                         time.Time
}

// ParseAckReply is parseAckReply for the tests.
func ParseAckReply(subject string) (AckReply, bool) {
	r, ok := parseAckReply(subject)
	return AckReply{r.delivered, r.streamSeq, r.consumerSeq, r.published}, ok
}

// ReadStored is readStored for the tests.
func ReadStored(m *nats.Msg) (seq uint64, at time.Time, err error) {
	s, err := readStored(m)
	return s.seq, s.time, err
}

// ReadPubAck is readPubAck for the tests.
func ReadPubAck(data []byte, n int) (first uint64, err error) { return readPubAck(data, n) }

// Pulls is pulls for the tests.
type Pulls struct{ p pulls }

// NewPulls returns the account of a source that begins.
func NewPulls() Pulls { return Pulls{pulls{window: window{size: firstWindow}}} }

// End is how the source reads the status that ends a pull which took so long.
func (p *Pulls) End(number uint64, undelivered int, bytes int64, took, lease time.Duration) {
	pull := p.p.live[number]
	p.p.window.measure(took, pull.bytes-bytes, pull.fills, lease)
	p.p.ended(number, undelivered, bytes, time.Now())
}

// Size is pulls.size.
func (p *Pulls) Size(room, waiting jobs.Room, minBytes int64) (int, int64) {
	return p.p.size(room, waiting, minBytes, terms{})
}

// Begin is pulls.begin.
func (p *Pulls) Begin(n int, bytes int64, now time.Time) uint64 {
	return p.p.begin(n, bytes, now, pullExpiry)
}

// Arrived is pulls.arrived.
func (p *Pulls) Arrived(size int64) { p.p.arrived(size) }

// Ended is pulls.ended.
func (p *Pulls) Ended(number uint64, undelivered int, bytes int64, now time.Time) {
	p.p.ended(number, undelivered, bytes, now)
}

// WriteOff is pulls.writeOff.
func (p *Pulls) WriteOff(number uint64) { p.p.writeOff(number) }

// Expire is pulls.expire.
func (p *Pulls) Expire(now time.Time) time.Time {
	next, _ := p.p.expire(now, now)
	return next
}

// Turn is pulls.turn.
func (p *Pulls) Turn(now time.Time, draw func(int) int) int { return p.p.turn(now, draw) }

// Draw replaces the source's random numbers.
func (s *Source) Draw(draw func(n int) int) { s.draw = draw }

// Outstanding is what was asked for and may still come.
func (p *Pulls) Outstanding() (int, int64) { return p.p.jobs, p.p.bytes }

// Binding is binding for the tests.
type Binding struct{ b binding }

// Bound returns a binding that need not be looked at, after so many deliveries.
func Bound(epoch string, lastSeq uint64) *Binding {
	return &Binding{binding{epoch: epoch, lastSeq: lastSeq}}
}

// Admit is binding.admit.
func (b *Binding) Admit(d *jobs.Delivery, consumerSeq uint64) bool { return b.b.admit(d, consumerSeq) }

// Held is how many deliveries wait for the binding to be looked at.
func (b *Binding) Held() int { return len(b.b.held) }

// OverduePulls lets the time of every pull pass, and returns when Receive has seen to it. A
// goroutine must be in Receive, and nothing may arrive.
func (s *Source) OverduePulls() {
	s.mu.Lock()
	for number, p := range s.pulls.live {
		p.ends = time.Now()
		s.pulls.live[number] = p
	}
	s.mu.Unlock()
	for range 3 { // the first may be in the buffer when the loop is past its look at the pulls
		s.wake <- struct{}{}
	}
}

// ForgetProof makes the source believe that it saw its stream long ago.
func (s *Source) ForgetProof() {
	s.mu.Lock()
	s.binding.proven = time.Time{}
	s.mu.Unlock()
}

// OnResume is onResume.
func (c *Conn) OnResume(tell func()) { c.onResume(tell) }

// FailedSince makes the letters believe that they could not be stored since then.
func (d *DeadLetters) FailedSince(then time.Time) { d.failures.FailedAt(then, ErrMissing) }

// Retention is what the settings ask for.
func (s *Setup) Retention() ledger.Retention {
	return ledger.Retention{Horizon: s.streams.ZombieHorizon, TTL: s.streams.LedgerTTL}
}

// Stopped makes what waits look as if the process had been stopped for so long.
func (s *Source) Stopped(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.ready {
		s.ready[i].Received = s.ready[i].Received.Add(-d)
	}
}

// Waiting is how many deliveries have arrived and were not handed out.
func (s *Source) Waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.ready)
}

// Looked reports whether the streams were looked at once.
func (h *HighWater) Looked() bool { return h.watching.Load() }

// Current is current.
func (h *HighWater) Current() error { return h.current() }

// Delivered is delivered.
func (h *HighWater) Delivered(seq uint64) { h.delivered(seq) }

// Wrong makes this machine's wall clock wrong.
func (c *Clock) Wrong(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = func() time.Time { return time.Now().Add(by).Round(0) }
}

// Differences is differences for the tests, with the name as the only field of which the effect
// is known.
func Differences(object string, have, want any) ([]Difference, error) {
	return differences(object, have, want, map[string]effect{"name": {}})
}

// Committed makes it look as if this replica had committed up to a sequence of DONE.
func (h *HighWater) Committed(seq uint64) { h.streams[1].seen(seq) }
