package operate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
	"rollcall/internal/ledger"
)

var (
	// ErrFinal is returned for a job that has ended already and so cannot be cancelled.
	ErrFinal = errors.New("the job has ended already")
	// ErrBusy is returned for a job that keeps changing while it is to be cancelled.
	ErrBusy = errors.New("the job has just become due; cancel it again")
	// ErrUnknown is returned for a job of which the broker does not say whether it is still in LATER as well.
	ErrUnknown = errors.New("the broker does not say yet whether the job has left LATER; erase it again in a minute")
	// ErrDue is returned for a job that is due and not in the job stream yet. It can enter at any moment, so it is
	// cancelled there.
	ErrDue = errors.New("the job is due and waits in LATER until the job stream has room for it; cancel it once it has entered")
)

const (
	// announceTimeout bounds what a replica may take to hear of cancelled jobs.
	announceTimeout = 500 * time.Millisecond
	// announceMost jobs are named to a replica in one message.
	announceMost = 1000
	// eventHeaders is kept free of the server's max payload, which counts headers too.
	eventHeaders = 1024
)

// canceller commits the end of jobs in competition with the replicas.
type canceller struct {
	*Admin
	who    string
	ledger *ledger.Ledger
	clock  Clock
	stream jetstream.Stream
	epoch  string
	// erase has the server overwrite what is removed.
	erase bool

	mu   sync.Mutex
	done []jobs.Ref
	// sets have members that were cancelled.
	sets map[string]bool
}

// cancelling runs work with a canceller, and announces the cancelled jobs to the replicas.
func (a *Admin) cancelling(ctx context.Context, who string, work func(context.Context, *canceller) error) error {
	clock, err := a.Clock(ctx)
	if err != nil {
		return err
	}
	stream, err := a.conn.Stream(ctx, a.streams.Stream)
	if err != nil {
		return err
	}
	ttl := max(a.streams.LedgerTTL, a.streams.ZombieHorizon)
	c := &canceller{
		Admin: a, who: who, clock: clock, stream: stream, epoch: jobs.Epoch(stream.CachedInfo().Created),
		ledger: ledger.New(bus.NewDoneStore(a.conn), ledger.Config{
			Names: a.ledger(), TTL: func() time.Duration { return ttl }, EventTTL: a.streams.DoneAge,
			EventSubject: bus.EventSubject, Lane: ledger.Lane(who), TallyTTL: a.streams.TallyTTL(),
		}, zerolog.Nop()),
		sets: map[string]bool{},
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	var committing sync.WaitGroup
	committing.Go(func() { _ = c.ledger.Run(running) }) // it returns nil
	defer committing.Wait()
	defer stop()
	a.conn.Tolerate("$SRV.", ReplicaSubject(a.pool, "", ""))
	var replicas map[string]string
	var listing sync.WaitGroup
	listing.Go(func() { replicas, _ = a.Digests(ctx) }) // without the right to ask, replicas hear of it at their commits
	err = work(ctx, c)
	listing.Wait()
	a.announce(ctx, slices.Collect(maps.Keys(replicas)), c.done)
	for set := range c.sets {
		a.endSet(ctx, set, clock.Now)
	}
	return err
}

// Cancel ends a job, found by its uid or id, as cancelled: waiting, delayed, in a back-off, or
// while replicas work on it. It is a competing commit: the first to commit the end of the job
// wins. who is named by the event. The error wraps [ErrFinal] if the job has ended already, and
// [ErrNotFound] if there is none.
func (a *Admin) Cancel(ctx context.Context, who, id string) (JobReport, error) {
	pool, err := a.asItStands(ctx)
	if err != nil {
		return JobReport{}, err
	}
	return pool.cancelJob(ctx, who, id, false)
}

// cancelJob is [Admin.Cancel] for a pool that is as it stands on the server; with erase that overwrites the message.
func (a *Admin) cancelJob(ctx context.Context, who, id string, erase bool) (JobReport, error) {
	var report JobReport
	err := a.cancelling(ctx, who, func(ctx context.Context, c *canceller) (err error) {
		c.erase = erase
		if report, err = c.job(ctx, id); err != nil {
			return err
		}
		switch report.State {
		case JobFinal:
			return fmt.Errorf("job %s: %w: %s", report.UID, ErrFinal, report.Outcome)
		case JobDelayed:
			return c.cancelDelayed(ctx, report.UID)
		}
		ref, err := jobs.ParseUID(report.UID)
		if err != nil {
			return err
		}
		m, err := c.storedJob(ctx, c.stream, ref.Seq)
		if err != nil {
			return c.conn.Explain("read job "+report.UID, err)
		}
		if m == nil {
			return fmt.Errorf("job %s: %w", report.UID, ErrFinal)
		}
		return c.cancel(ctx, m)
	})
	if err != nil {
		return JobReport{}, err
	}
	report.State, report.Outcome, report.Reason = JobFinal, jobs.Cancelled, jobs.ReasonCancelled
	report.Attempt = max(report.Attempt-1, 0) // it named the next one
	report.NextAttempt = time.Time{}
	return report, nil
}

// cancel ends a job of the job stream, and removes it where the stream is a work queue. In other
// streams it stays, as what other consumers have a right to.
func (c *canceller) cancel(ctx context.Context, m *jetstream.RawStreamMsg) error {
	j := decodeStored(m, c.epoch)
	records, err := c.ledger.Load(ctx, []jobs.Ref{j.Ref})
	if err != nil {
		return err
	}
	j.Record = records[0]
	if c.erase { // it must not be stored in LATER when it is wiped
		if err := c.hasLeftLater(ctx, &j); err != nil {
			return err
		}
	}
	if err := c.commit(ctx, &j); err != nil {
		return err
	}
	c.mu.Lock()
	c.done = append(c.done, j.Ref)
	c.mu.Unlock()
	if c.stream.CachedInfo().Config.Retention != jetstream.WorkQueuePolicy {
		return nil
	}
	if c.erase {
		return c.wipeFrom(ctx, c.stream, m.Sequence)
	}
	if early, err := c.leaveLater(ctx, &j); err != nil || early {
		return err // a replica removes it once its ack may be sent
	}
	if err := c.stream.DeleteMsg(ctx, m.Sequence); err != nil && !isGone(err) {
		return c.conn.Explain("remove the cancelled job "+j.UID, err)
	}
	return nil
}

// leaveLater removes from LATER what a job was before it was due. early means that the broker does not say whether
// the job has entered the job stream.
func (a *Admin) leaveLater(ctx context.Context, j *jobs.Job) (early bool, err error) {
	waiting, err := a.conn.SweepDue(ctx, a.streams.Stream, &j.Delivery)
	if err != nil && !errors.Is(err, bus.ErrMissing) && !errors.Is(err, bus.ErrDenied) {
		return false, a.conn.Explain("remove job "+j.UID+" from "+bus.StreamLater, err)
	}
	return len(waiting) > 0, nil
}

// hasLeftLater is leaveLater for a job that is to be wiped; the error wraps [ErrUnknown] where that is early.
func (a *Admin) hasLeftLater(ctx context.Context, j *jobs.Job) error {
	early, err := a.leaveLater(ctx, j)
	if err == nil && early {
		err = fmt.Errorf("job %s: %w", j.UID, ErrUnknown)
	}
	return err
}

// isGone reports whether a message could not be deleted because it is not there: nats.go has two errors for that.
func isGone(err error) bool {
	return errors.Is(err, jetstream.ErrMsgNotFound) || errors.Is(err, jetstream.ErrMsgDeleteUnsuccessful)
}

// commit ends a job in an event of its own.
func (c *canceller) commit(ctx context.Context, j *jobs.Job) error {
	now := c.clock.Now()
	j.Received = time.Now()
	if c.erase {
		j.ID = j.UID // what is written of it from here on names nobody
	}
	s := &jobs.Settlement{
		Batch: &jobs.Batch{
			ID: uuid.Must(uuid.NewV7()).String(), Pool: c.pool, Replica: c.who, Seal: jobs.SealCancel, SealedAt: now, Jobs: []*jobs.Job{j},
		},
		Rulings: []jobs.Ruling{{Outcome: jobs.Cancelled, Attempt: j.Record.Attempts, Reason: jobs.ReasonCancelled}},
		Replies: make([]jobs.Replies, 1), SettledAt: now,
	}
	s.EncodeEvent(int(c.conn.NATS().MaxPayload()) - eventHeaders)
	err := c.ledger.Commit(ctx, s)
	if errors.As(err, new(*jobs.ConflictError)) {
		return fmt.Errorf("job %s: %w", j.UID, ErrFinal)
	}
	if err == nil && j.Set != "" {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.sets[j.Set] = true
	}
	return err
}

// announce names cancelled jobs to replicas, so that no call for them begins any more. One that
// does not hear of it is refused when it commits them.
func (a *Admin) announce(ctx context.Context, replicas []string, refs []jobs.Ref) {
	var work sync.WaitGroup
	for len(refs) > 0 {
		n := min(len(refs), announceMost)
		uids := make([]string, n)
		for i, ref := range refs[:n] {
			uids[i] = ref.UID()
		}
		refs = refs[n:]
		request, err := json.Marshal(cancelRequest{uids})
		if err != nil {
			return
		}
		for _, replica := range replicas {
			work.Go(func() {
				ctx, cancel := context.WithTimeout(ctx, announceTimeout)
				defer cancel()
				_, _ = a.conn.NATS().RequestWithContext(ctx, ReplicaSubject(a.pool, replica, endpointCancel), request)
			})
		}
		work.Wait()
	}
}

// cancelRequest names jobs that were cancelled to a replica.
type cancelRequest struct {
	UIDs []string `json:"uids"`
}

// refs returns the jobs; texts that are no uid are left out.
func (r cancelRequest) refs() (refs []jobs.Ref) {
	for _, uid := range r.UIDs {
		if ref, err := jobs.ParseUID(uid); err == nil {
			refs = append(refs, ref)
		}
	}
	return refs
}
