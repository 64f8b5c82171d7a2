package bus

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"rollcall/internal/jobs"
)

const (
	// pullExpiry is how long a pull waits at the broker. A drain waits the last one out, so
	// that nothing is delivered into the void and comes back only after AckWait; an idle
	// replica asks that often.
	pullExpiry = time.Second
	// pullGrace is how much later than its expiry a pull is written off whose end was never
	// reported: a reconnect, a change of leader, or a lost status message.
	pullGrace = time.Second
	// pullLag is how late the broker may be in ending a pull whose time is over.
	pullLag = 250 * time.Millisecond
	// messageOverhead is what a message can weigh besides its payload: subject and reply
	// (server/consumer.go, loopAndGatherMsgs, counts both).
	messageOverhead = 8 << 10
	// pullShare is the part of the pool's room that must be free before more is asked for, so
	// that a trickle of jobs does not become a trickle of pulls: with the eight slots of the
	// default settings, and two batches taken ahead for each, what one slot holds.
	pullShare = 24
	// refusalsBearable and unansweredBearable are how many pulls in a row the broker may refuse,
	// or not answer at all, before the source is not ready.
	refusalsBearable   = 3
	unansweredBearable = 2
	// ranks is how many ranks a pull can have at the broker; 0 is served first.
	ranks = 10
)

// pulls is the account of what was asked for at the broker. Deliveries carry their own
// subject and do not say which pull they belong to; so the account is kept in total, and
// the status message that ends a pull says how much of it was not delivered.
type pulls struct {
	live map[uint64]pull
	last uint64
	// jobs and bytes asked for that have neither arrived nor been called off. Never too
	// low: what is uncertain counts as still to come until its pull is written off.
	jobs   int
	bytes  int64
	window window
	// large is set when the next job is larger than a pull: then one job of any size is asked for.
	large bool
	// capacity is the largest room the pool ever had.
	capacity int
	// rank is that of all pulls until rankEnds.
	rank     int
	rankEnds time.Time
}

type pull struct {
	jobs  int
	bytes int64
	begun time.Time
	ends  time.Time
	// fills is how many bytes of the window its jobs should take, if the window was full with it.
	fills int64
	// lost is set when the connection broke while the pull was open: nobody will answer it.
	lost bool
}

// size returns how much more to ask for, given the room that is neither filled by what waits
// to be handed out (waiting) nor promised to it, and what the consumer allows. minBytes is what
// the largest message weighs: a pull for less would be refused again and again when that
// message is next.
func (p *pulls) size(room, waiting jobs.Room, minBytes int64, allowed terms) (n int, bytes int64) {
	p.capacity = max(p.capacity, room.Jobs)
	free := room.Jobs - waiting.Jobs - p.jobs
	bytes = room.Bytes - waiting.Bytes - p.bytes
	share := max(jobs.PageSize, p.capacity/pullShare)
	if allowed.maxJobs > 0 {
		free, share = min(free, allowed.maxJobs), min(share, allowed.maxJobs)
	}
	windowed := p.window.size > 0 && !p.large
	switch fits, known := p.window.jobs(); {
	case p.window.size > 0 && p.large:
		free, share = min(free, 1), 1
	case known:
		free, share = min(free, fits-p.jobs), min(share, max(fits/windowShare, 1))
	case windowed && p.jobs > 0: // until it is known what jobs weigh, one pull at a time
		return 0, 0
	}
	if windowed {
		minBytes = min(minBytes, p.window.size/windowShare)
	}
	if allowed.maxBytes > 0 {
		bytes, minBytes = min(bytes, allowed.maxBytes), min(minBytes, allowed.maxBytes)
	}
	idle := p.jobs == 0 && waiting.Jobs == 0
	if free <= 0 || !idle && (free < share || bytes < minBytes) {
		return 0, 0
	}
	if free >= jobs.PageSize {
		// Whole pages keep neighbouring replicas out of each other's pages.
		free -= free % jobs.PageSize
	}
	if windowed {
		bytes = min(bytes, p.window.bytes(free))
	}
	return free, max(bytes, minBytes)
}

// turn returns the rank of a pull that begins now. The broker deals messages out one by one to
// the waiting pulls of the lowest rank, in turn (server/consumer.go, waitQueue.popAndRequeue).
// With equal ranks neighbouring jobs would go to as many replicas as wait, and each page of
// the ledger would be written by all of them at once. So each replica draws a rank and keeps
// it as long as a pull may wait: the replica that drew the lowest gets whole pulls, and when
// it has no room left the next one does. Draws being equal now and then does no harm.
func (p *pulls) turn(now time.Time, draw func(n int) int) int {
	if !now.Before(p.rankEnds) {
		p.rank, p.rankEnds = draw(ranks), now.Add(pullExpiry)
	}
	return p.rank
}

// begin notes a pull that waits no longer than expiry and returns its number.
func (p *pulls) begin(n int, bytes int64, now time.Time, expiry time.Duration) uint64 {
	if p.live == nil {
		p.live = make(map[uint64]pull)
	}
	p.last++
	p.jobs += n
	p.bytes += bytes
	asked := pull{jobs: n, bytes: bytes, begun: now, ends: now.Add(expiry + pullGrace)}
	if fits, known := p.window.jobs(); !known || fits-p.jobs < jobs.PageSize {
		asked.fills = max(int64(n)*p.window.average, 1)
	}
	p.live[p.last] = asked
	return p.last
}

// arrived notes one delivery.
func (p *pulls) arrived(size int64) {
	if !p.large {
		p.window.weigh(size)
	}
	p.large = false
	p.jobs = max(p.jobs-1, 0)
	p.spend(size)
	if p.jobs == 0 {
		delete(p.live, stragglers)
	}
	p.tidy()
}

// spend takes off bytes that have arrived or will not. Once all that were asked for are used up,
// to the last one, nothing more comes: the broker ends such a pull without a status, whatever
// number of jobs it still had (server/consumer.go, nextWaiting, and loopAndGatherMsgs behind it).
func (p *pulls) spend(bytes int64) {
	p.bytes -= bytes
	if p.bytes == 0 && p.jobs > 0 {
		p.jobs = 0
		clear(p.live)
	}
	p.bytes = max(p.bytes, 0)
}

// stragglers is the number of a pull that stands for deliveries which the broker has sent, or
// so the account says, after the last pull ended: with replicas it reports the end first and
// delivers once the delivery is replicated (server/consumer.go, deliverMsg). Or a written-off
// pull had them. They are waited for no longer than the grace.
const stragglers = 0

// ended notes that the broker ended a pull and will not deliver so much of it.
func (p *pulls) ended(number uint64, undelivered int, bytes int64, now time.Time) {
	if _, ok := p.live[number]; !ok {
		return
	}
	delete(p.live, number)
	p.jobs = max(p.jobs-undelivered, 0)
	p.spend(bytes)
	if len(p.live) == 0 && p.jobs > 0 {
		p.live[stragglers] = pull{jobs: p.jobs, bytes: p.bytes, ends: now.Add(pullGrace)}
	}
	p.tidy()
}

// tidy forgets the bytes when no job is to come: the broker need not count them as we do.
func (p *pulls) tidy() {
	if p.jobs == 0 && len(p.live) == 0 {
		p.bytes = 0
	}
}

// writeOff ends a pull for which it is not known how much was delivered. Later deliveries are
// bounded by the requests of the other pulls.
func (p *pulls) writeOff(number uint64) {
	if _, ok := p.live[number]; !ok {
		return
	}
	delete(p.live, number)
	n, bytes := 0, int64(0)
	for _, other := range p.live {
		n += other.jobs
		bytes += other.bytes
	}
	p.jobs = min(p.jobs, n)
	p.bytes = min(p.bytes, bytes)
}

// lose notes that the connection broke: pulls that are open may still be answered, but if they
// are not, that means nothing.
func (p *pulls) lose() {
	for number, pull := range p.live {
		pull.lost = true
		p.live[number] = pull
	}
}

// expire writes off the pulls whose end is overdue and returns when the next one will be, and
// how many of those written off should have been answered since answered.
func (p *pulls) expire(now, answered time.Time) (next time.Time, silent int) {
	for number, pull := range p.live {
		if !now.Before(pull.ends) {
			if number != stragglers && !pull.lost && pull.begun.After(answered) {
				silent++
			}
			p.writeOff(number)
		} else if next.IsZero() || pull.ends.Before(next) {
			next = pull.ends
		}
	}
	return next, silent
}

// ask keeps as much asked for at the broker as there is room, and returns when the next
// pull is overdue.
func (s *Source) ask(room jobs.Room) (due time.Time, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	due = s.expire(now)
	if s.draining || s.binding.open() {
		return due, nil
	}
	if !s.conn.online() {
		// A pull could be answered before the reconnect is known here. The reconnect wakes us,
		// at the latest the time does.
		return now.Add(pullGrace), nil
	}
	waiting := jobs.Room{Jobs: len(s.ready), Bytes: s.readyBytes}
	allowed := s.binding.terms
	n, bytes := s.pulls.size(room, waiting, s.conn.nc.MaxPayload()+messageOverhead, allowed)
	if n == 0 {
		return due, nil
	}
	if s.sub == nil {
		if err := s.subscribe(); err != nil {
			return due, err
		}
	}
	expiry := pullExpiry
	if allowed.maxExpires > 0 {
		expiry = min(expiry, allowed.maxExpires)
	}
	number := s.pulls.begin(n, bytes, now, expiry)
	// A consumer without ranks, such as one that a person made, ignores group and priority.
	request := fmt.Appendf(nil, `{"batch":%d,"max_bytes":%d,"expires":%d,"group":%q,"priority":%d}`,
		n, bytes, expiry.Nanoseconds(), allowed.group, s.pulls.turn(now, s.draw))
	err = s.conn.nc.PublishRequest(s.next, s.inbox+strconv.FormatUint(number, 10), request)
	if errors.Is(err, nats.ErrReconnectBufExceeded) {
		// Nothing was sent. The reconnect wakes us.
		s.pulls.ended(number, n, bytes, now)
		return now.Add(pullGrace), nil
	}
	if err != nil {
		return due, fmt.Errorf("ask for jobs: %w", err)
	}
	if due.IsZero() {
		due = s.pulls.live[number].ends
	}
	return due, nil
}

// expire writes overdue pulls off. If the broker does not answer any more, stream and consumer
// are looked at, and the inbox is opened anew: the server forgets a subscription whose right
// was taken away for a moment, and says so to nobody who could act on it. The lock is held.
func (s *Source) expire(now time.Time) (due time.Time) {
	due, silent := s.pulls.expire(now, s.lastAnswer)
	if silent == 0 || s.draining {
		return due
	}
	s.unanswered += silent
	s.binding.reasons++
	signal(s.check)
	if s.unanswered < unansweredBearable {
		return due
	}
	s.fail(fmt.Errorf("the broker does not answer pulls to %s%s", s.next, s.conn.denials()))
	if s.sub != nil {
		if err := unsubscribe(s.sub); err != nil {
			s.log.Debug().Err(err).Msg("could not close the inbox of pulls")
		}
		s.sub, s.inbox = nil, s.conn.nc.NewInbox()+"."
	}
	return due
}

// subscribe opens the inbox of all pulls. It holds at most what was asked for, so the
// client's own limits would only lose messages.
func (s *Source) subscribe() error {
	sub, err := s.conn.nc.Subscribe(s.inbox+"*", s.accept)
	if err != nil {
		return fmt.Errorf("subscribe to the inbox of pulls: %w", err)
	}
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		return fmt.Errorf("lift the limits of the inbox of pulls: %w", errors.Join(err, sub.Unsubscribe()))
	}
	s.sub = sub
	return nil
}

// endPull reads the status that ends a pull. One that says how much was not delivered is the
// normal end: time-out, batch completed, bytes used up. Any other means that something
// happened to the consumer, or that it does not allow such a pull.
func (s *Source) endPull(m *nats.Msg, number string) {
	n, ok := parseUint(number)
	status := m.Header.Get("Status")
	if !ok || status == "" {
		return
	}
	description := m.Header.Get("Description")
	undelivered, normal := parseUint(m.Header.Get("Nats-Pending-Messages"))
	bytes, _ := parseUint(m.Header.Get("Nats-Pending-Bytes"))
	s.mu.Lock()
	asked := s.pulls.live[n].bytes
	if pull, live := s.pulls.live[n]; normal && live {
		s.pulls.window.measure(time.Since(pull.begun), pull.bytes-int64(bytes), pull.fills, s.lease())
		s.pulls.ended(n, int(undelivered), int64(bytes), time.Now())
	} else {
		s.pulls.writeOff(n)
	}
	switch tooLarge := strings.Contains(description, "Exceeds MaxBytes") && int64(bytes) == asked; {
	case tooLarge && !s.pulls.large && s.binding.terms.maxBytes == 0:
		s.pulls.large = true
	case normal && !tooLarge:
		s.answered(time.Now())
	default:
		s.refused(status + " " + description)
	}
	s.mu.Unlock()
	signal(s.wake)
}

// refused notes that the broker refused a pull. The lock is held.
func (s *Source) refused(why string) {
	s.lastAnswer = time.Now()
	s.binding.reasons++
	signal(s.check)
	if s.refusals++; s.refusals >= refusalsBearable {
		s.fail(fmt.Errorf("the broker refuses pulls of consumer %s: %s", s.setup.pool, why))
		return
	}
	s.log.Debug().Str("status", why).Msg("a pull was refused")
}
