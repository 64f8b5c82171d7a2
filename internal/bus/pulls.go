package bus

import (
	"time"

	"rollcall/internal/jobs"
)

const (
	// pullExpiry is how long a pull waits at the broker. A drain waits the last one out, so
	// that nothing is delivered into the void and comes back only after AckWait; an idle
	// replica asks that often.
	pullExpiry = time.Second
	// pullGrace is how much later than its expiry a pull is written off whose end was never
	// told: a reconnect, a change of leader, or a lost status message.
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
	// ranks is how many ranks a pull can have at the broker; 0 is served first.
	ranks = 10
)

// pulls is the account of what was asked for at the broker. Deliveries carry their own
// subject and do not tell which pull they belong to; so the account is kept in total, and
// the status message that ends a pull tells how much of it was not delivered.
type pulls struct {
	live map[uint64]pull
	last uint64
	// jobs and bytes asked for that have neither arrived nor been called off. Never too
	// low: what is uncertain counts as still to come until its pull is written off.
	jobs  int
	bytes int64
	// capacity is the largest room the pool ever had.
	capacity int
	// rank is that of all pulls until rankEnds.
	rank     int
	rankEnds time.Time
}

type pull struct {
	jobs  int
	bytes int64
	ends  time.Time
}

// size returns how much more to ask for, given the room that is neither filled by what waits
// to be handed out (waiting) nor promised to it. minBytes is what the largest message weighs:
// a pull for less would be refused again and again when that message is next.
func (p *pulls) size(room, waiting jobs.Room, minBytes int64) (n int, bytes int64) {
	p.capacity = max(p.capacity, room.Jobs)
	free := room.Jobs - waiting.Jobs - p.jobs
	bytes = room.Bytes - waiting.Bytes - p.bytes
	idle := p.jobs == 0 && waiting.Jobs == 0
	if free <= 0 || !idle && (free < max(jobs.PageSize, p.capacity/pullShare) || bytes < minBytes) {
		return 0, 0
	}
	if free >= jobs.PageSize {
		// Whole pages keep neighbouring replicas out of each other's pages.
		free -= free % jobs.PageSize
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

// begin notes a pull and returns its number.
func (p *pulls) begin(n int, bytes int64, now time.Time) uint64 {
	if p.live == nil {
		p.live = make(map[uint64]pull)
	}
	p.last++
	p.live[p.last] = pull{jobs: n, bytes: bytes, ends: now.Add(pullExpiry + pullGrace)}
	p.jobs += n
	p.bytes += bytes
	return p.last
}

// arrived notes one delivery.
func (p *pulls) arrived(size int64) {
	p.jobs = max(p.jobs-1, 0)
	p.bytes = max(p.bytes-size, 0)
	if p.jobs == 0 {
		delete(p.live, stragglers)
	}
	p.tidy()
}

// stragglers is the number of a pull that stands for deliveries which the broker has sent, or
// so the account says, after the last pull ended: with replicas it tells the end first and
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
	p.bytes = max(p.bytes-bytes, 0)
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

// writeOff ends a pull of which nobody told how much was delivered. What the others asked
// for bounds what can still come.
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

// expire writes off the pulls whose end is overdue and returns when the next one will be.
func (p *pulls) expire(now time.Time) (next time.Time) {
	for number, pull := range p.live {
		if !now.Before(pull.ends) {
			p.writeOff(number)
		} else if next.IsZero() || pull.ends.Before(next) {
			next = pull.ends
		}
	}
	return next
}
