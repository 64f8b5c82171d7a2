package sim_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
	"rollcall/internal/ledger"
	"rollcall/internal/pool"
)

var (
	errDead     = errors.New("the process is dead")
	errNoAnswer = errors.New("no answer in time")
)

// replica is one process of the pool with its view of the world.
type replica struct {
	world *world
	name  string
	dice  *dice
	dead  atomic.Bool
	// offline means that the connection to the broker is cut.
	offline atomic.Bool

	mu     sync.Mutex
	paused chan struct{} // closed when the pause ends; nil while running

	// stallable replicas have a horizon that outlasts a stall.
	stallable bool
	// denied are the rights that the replica lacks for the moment.
	denied [numRights]atomic.Bool
	// skew is how far the replica's own clock is ahead; clock is what it knows of the broker's.
	skew  time.Duration
	clock *bus.Clock
	// generation of the broker that the replica has looked at; what was received before since is
	// of data that the broker has lost.
	generation, since atomic.Int64

	limit  jobs.Room
	ledger *ledger.Ledger
	sets   *ledger.Sets
	pool   *pool.Pool
	drain  context.CancelFunc
	cut    context.CancelFunc
	ended  chan struct{}
}

var serial atomic.Int64

// launch starts a replica. Its configuration is drawn, so that replicas differ, and then changed.
func launch(w *world, name string, changes ...func(*pool.Config, *pool.Parts)) *replica {
	r := &replica{world: w, name: name, dice: w.stream(name), ended: make(chan struct{})}
	r.skew = r.dice.skew()
	r.clock = bus.NewClock(zerolog.Nop(), r.wall)
	cfg := pool.Config{
		JobMaxAge: w.maxAge, BatchSize: r.dice.between(1, 20), BatchBytes: jobs.Size(r.dice.between(200, 5000)),
		BatchLinger:     time.Duration(r.dice.between(0, 2)) * 500 * time.Millisecond,
		BatchesInFlight: r.dice.between(1, 4), MaxAttempts: 20, RetryMin: time.Second, RetryMax: 20 * time.Second,
		Pool: "sim", Replica: name,
	}
	parts := pool.Parts{
		Source: r, Settler: r, DeadLetters: graveyard{r}, Observer: silent{}, Log: zerolog.Nop(), MaxPayload: func() int { return 1 << 20 },
		Lease: func() time.Duration { return ackWait }, Now: r.clock.Now,
		Services: []pool.Service{service{r, "billing", true}, service{r, "index", true}, service{r, "stats", false}},
		NewID:    func() string { return fmt.Sprintf("batch-%d", serial.Add(1)) },
	}
	for _, change := range changes {
		change(&cfg, &parts)
	}
	r.limit = cfg.Capacity()
	// A job that is larger than a whole batch may be taken beyond the bound, one for each slot, for
	// the intake and for what is being settled.
	r.limit.Bytes += int64(cfg.BatchesInFlight+2) * (largeHeader + 4096)
	r.generation.Store(w.generation.Load())
	names := ledger.Names{Pool: "sim", Stream: "JOBS"}
	retentions := ledger.NewRetentions(r, names, r.retention())
	sets := r.newSets()
	l := ledger.New(r, ledger.Config{
		Names: names, EventSubject: bus.EventSubject,
		TTL: retentions.TTL, Lane: ledger.Lane(name), OnSets: sets.Touched,
	}, zerolog.Nop())
	parts.Ledger = l
	p, err := pool.New(cfg, parts)
	if err != nil {
		panic(err)
	}
	r.pool, r.ledger, r.sets = p, l, sets
	work, cut := context.WithCancel(context.Background())
	intake, drain := context.WithCancel(work)
	r.cut, r.drain = cut, drain
	go func() {
		defer close(r.ended)
		background, stop := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() { _ = l.Run(background) })
		for _, err := retentions.Renew(work); err != nil && work.Err() == nil; _, err = retentions.Renew(work) {
			time.Sleep(100 * time.Millisecond)
		}
		for _, known := r.clock.Skew(); !known && work.Err() == nil; _, known = r.clock.Skew() {
			_, _ = r.Floor(work) // again, until it is known
		}
		wg.Go(func() { r.watchClock(background) })
		wg.Go(func() { _ = sets.Run(background) })
		wg.Go(func() { _ = ledger.NewSweeper(r, names, retentions, zerolog.Nop()).Run(background) })
		if work.Err() == nil { // else the clock may not be known, and a worker does not start
			_ = p.Run(intake, work)
		}
		stop()
		wg.Wait()
	}()
	return r
}

// kill ends the process at once: from here on nothing it does has an effect.
func (r *replica) kill() {
	r.dead.Store(true)
	r.resume()
	r.cut()
}

// stop drains, and cuts off what has not ended within the deadline. Its rights come back: what is
// cut off without the right to commit cannot write down how its deliveries ended, and counts as a
// crash.
func (r *replica) stop(deadline time.Duration) {
	r.world.disturbed(r.name)
	r.allow()
	r.drain()
	select {
	case <-r.ended:
	case <-time.After(deadline):
	}
	r.cut()
	<-r.ended
}

func (r *replica) pause() {
	r.world.disturbed(r.name)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.paused == nil {
		r.paused = make(chan struct{})
	}
}

// cutOff takes the replica off the network until offline is unset.
func (r *replica) cutOff() {
	r.world.disturbed(r.name)
	r.offline.Store(true)
}

func (r *replica) resume() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.paused != nil {
		close(r.paused)
		r.paused = nil
	}
}

// step is where a process can be stopped, or be found dead.
func (r *replica) step() error {
	r.mu.Lock()
	paused := r.paused
	r.mu.Unlock()
	if paused != nil {
		<-paused
	}
	if r.dead.Load() {
		return errDead
	}
	return nil
}

// Receive implements pool.Source. Deliveries may be lost on the way, arrive late, out of order,
// in small pieces, or with a lease that is nearly over.
func (r *replica) Receive(ctx context.Context, room jobs.Room) ([]jobs.Delivery, error) {
	for {
		if err := r.step(); err != nil {
			<-ctx.Done()
			return nil, context.Cause(ctx)
		}
		if r.offline.Load() || !r.may(toPull, toHear) {
			select {
			case <-time.After(time.Second):
				continue
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
		room.Jobs = min(room.Jobs, r.dice.between(1, 30))
		out, err := r.world.deliver(ctx, room, func() time.Duration {
			if r.dice.bad(30) {
				return r.dice.upTo(ackWait / 4)
			}
			return ackWait
		})
		if err != nil {
			return nil, err
		}
		if r.dice.bad(100) {
			r.dice.shuffle(out)
		}
		time.Sleep(r.dice.upTo(20 * time.Millisecond))
		held := r.pool.Held()
		for i := range out {
			held.Jobs++
			held.Bytes += out[i].Size()
		}
		if held.Jobs > r.limit.Jobs || held.Bytes > r.limit.Bytes {
			r.world.mu.Lock()
			r.world.violation("%s holds %+v, its limit is %+v", r.name, held, r.limit)
			r.world.mu.Unlock()
		}
		current := r.generation.Load() == r.world.generation.Load()
		if r.step() == nil && current && !r.offline.Load() && !r.dice.bad(20) {
			return out, nil
		}
	}
}

// settle passes a settlement on, unless it gets lost; sometimes it arrives late, when the delivery
// is no longer to be read.
func (r *replica) settle(d *jobs.Delivery, send func(jobs.Ref)) error {
	if err := r.step(); err != nil {
		return err
	}
	if err := r.mayBeSent(d.Received); err != nil {
		return err
	}
	generation, ref := r.generation.Load(), d.Ref
	effect := func() {
		if generation == r.world.generation.Load() { // else the connection has broken meanwhile
			send(ref)
		}
	}
	switch {
	case r.offline.Load():
		return errNoAnswer
	case !r.may(toAck), r.dice.bad(40):
	case r.dice.bad(40):
		time.AfterFunc(r.dice.upTo(2*ackWait), effect)
	default:
		effect()
	}
	return nil
}

func (r *replica) Ack(done ...*jobs.Delivery) error {
	var errs []error
	for _, d := range done {
		errs = append(errs, r.settle(d, r.world.ack))
	}
	return errors.Join(errs...)
}

func (r *replica) Nak(d *jobs.Delivery, delay time.Duration) error {
	return r.settle(d, func(ref jobs.Ref) { r.world.postpone(ref, delay) })
}

func (r *replica) Extend(d *jobs.Delivery) error {
	return r.settle(d, func(ref jobs.Ref) { r.world.postpone(ref, ackWait) })
}

// Apply implements ledger.Store: it may be late, be refused, get lost, or be done with its
// answer lost.
func (r *replica) Apply(ctx context.Context, writes []ledger.Write) (uint64, error) {
	generation := r.generation.Load() // what is sent on a connection that breaks is lost
	if err := r.pass(ctx, toCommit); err != nil {
		return 0, err
	}
	if r.dice.bad(30) {
		return 0, ledger.ErrBusy
	}
	first, err := r.world.apply(writes, func() error { return r.looked(generation) })
	if r.dice.bad(60) || r.pass(ctx, toHear) != nil {
		return 0, errNoAnswer
	}
	return first, err
}

// Read implements ledger.Store.
func (r *replica) Read(ctx context.Context, subjects []string) ([]ledger.Entry, error) {
	if err := r.pass(ctx, toRead, toHear); err != nil {
		return nil, err
	}
	return r.world.read(subjects), nil
}

// pass is the way to the broker or back, for those who have the rights.
func (r *replica) pass(ctx context.Context, needs ...right) error {
	wait := r.dice.upTo(10 * time.Millisecond)
	lost := r.offline.Load() || r.dice.bad(30) || !r.may(needs...)
	if lost {
		wait = 2 * time.Second
	}
	select {
	case <-time.After(wait):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := r.step(); err != nil {
		return err
	}
	if lost {
		return errNoAnswer
	}
	return nil
}

// graveyard implements pool.DeadLetters.
type graveyard struct{ r *replica }

func (g graveyard) Publish(ctx context.Context, letters []jobs.DeadLetter) error {
	for {
		err := g.r.pass(ctx, toBury, toHear)
		if err == nil {
			g.r.world.buried(letters)
			return nil
		}
		if ctx.Err() != nil || errors.Is(err, errDead) {
			return err
		}
	}
}

// service implements pool.Service. What it says of a job is drawn for each call.
type service struct {
	r        *replica
	name     string
	required bool
}

func (s service) Name() string   { return s.name }
func (s service) Required() bool { return s.required }
func (s service) Batched() bool  { return true }

func (s service) Call(ctx context.Context, c *jobs.Call) jobs.CallResult {
	result := s.answer(ctx, c)
	s.r.world.learnt(c, &result)
	return result
}

func (s service) answer(ctx context.Context, c *jobs.Call) jobs.CallResult {
	refused := func(reason string, final bool, code, tries int) jobs.CallResult {
		return jobs.CallResult{Tries: tries, Failure: &jobs.Failure{Reason: reason, Final: final, Code: code, Err: errors.New("simulated")}}
	}
	begun := s.r.world.now()
	if s.r.dice.bad(30) {
		return refused(jobs.ReasonBreakerOpen, false, 0, 0)
	}
	if s.r.step() != nil || ctx.Err() != nil { // a replica that was paused sends nothing of what was cut meanwhile
		<-ctx.Done()
		return refused(jobs.ReasonCanceled, false, 0, 0)
	}
	s.r.world.called(s.r.name, s.name, begun, c)
	for _, j := range c.Jobs {
		if strings.HasPrefix(string(j.Body), kindPoison) {
			s.r.world.poisoned(s.r.name)
			s.r.kill()
		}
	}
	if f := s.r.world.refusal(s.name); f != nil {
		return jobs.CallResult{Tries: 1, Failure: f}
	}
	latency := s.r.dice.upTo(2 * time.Second)
	if s.r.dice.bad(20) {
		latency = s.r.dice.upTo(2 * ackWait)
	}
	select {
	case <-time.After(latency):
	case <-ctx.Done():
		return refused(jobs.ReasonCanceled, false, 0, 1)
	}
	if s.r.step() != nil {
		<-ctx.Done()
		return refused(jobs.ReasonCanceled, false, 0, 1)
	}
	toxic := slices.ContainsFunc(c.Jobs, func(j *jobs.Job) bool { return strings.HasPrefix(string(j.Body), kindToxic) })
	if toxic || s.r.dice.bad(50) {
		return refused(jobs.ReasonHTTP5xx, false, 503, 3)
	}
	replies := make([]jobs.Reply, len(c.Jobs))
	for i, j := range c.Jobs {
		switch {
		case strings.HasPrefix(string(j.Body), kindRefused) && s.required:
			return refused(jobs.ReasonHTTP4xx, true, 422, 1)
		case s.r.dice.bad(15):
			replies[i] = jobs.Reply{Status: jobs.StatusFail, Error: "simulated"}
		case s.r.dice.bad(80):
			replies[i] = jobs.Reply{Status: jobs.StatusRetry, Error: "simulated"}
		default:
			replies[i] = jobs.Reply{Status: jobs.StatusOK}
		}
	}
	return jobs.CallResult{Replies: replies, Tries: 1}
}

// silent implements pool.Observer.
type silent struct{}

func (silent) Batch(ctx context.Context, _ *jobs.Batch) (context.Context, func(jobs.BatchEnd)) {
	return ctx, func(jobs.BatchEnd) {}
}

func (silent) Call(ctx context.Context, _ *jobs.Call) (context.Context, func(*jobs.CallResult)) {
	return ctx, func(*jobs.CallResult) {}
}
func (silent) Event(jobs.Occurrence, int) {}
