package bus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"rollcall/internal/ledger"
	"rollcall/internal/retry"
)

const (
	// confirmations is how often a stream with several servers must show that it has gone back:
	// one that has just become its leader may not have caught up with itself.
	confirmations = 3
	confirmWait   = time.Second
	checkTimeout  = 5 * time.Second
)

// errUnchecked is returned for what was not sent because the broker was not looked at since the
// last reconnect.
var errUnchecked = errors.New("the broker was not looked at since the reconnect")

// HighWater remembers how far the streams of a pool have come, and notices when the broker's data
// was set back: to a backup, or by a disk that lost what it had confirmed. Then the numbers of old
// jobs are given to new ones, so that nothing remembered of the old ones counts, and nothing they
// are worth may be sent any more.
//
// It looks after every reconnect. Until then commits and settlements are held back.
type HighWater struct {
	conn    *Conn
	streams []*waterMark
	// eventAge is how long events are kept.
	eventAge time.Duration
	// watching is set once Run has looked: until then nothing is held back.
	watching atomic.Bool
	// checked is how many reconnects were looked at.
	checked atomic.Uint64
	// since is when the data was last found to be set back, in Unix nanoseconds; 0 = never.
	since atomic.Int64
	wake  chan struct{}

	mu sync.Mutex
	// setBack is called when the data was found to be set back.
	setBack []func()
	// event is the last one that this replica committed, stored at at by our clock.
	event ledger.Entry
	at    time.Time
}

// waterMark is how far a stream has come.
type waterMark struct {
	name string
	last atomic.Uint64
	// created is zero until the stream was looked at.
	created time.Time
}

func (m *waterMark) seen(seq uint64) {
	for last := m.last.Load(); seq > last; last = m.last.Load() {
		if m.last.CompareAndSwap(last, seq) {
			return
		}
	}
}

func newHighWater(conn *Conn, jobs string, eventAge time.Duration) *HighWater {
	return &HighWater{conn: conn, streams: []*waterMark{{name: jobs}, {name: conn.Done()}}, eventAge: eventAge, wake: make(chan struct{}, 1)}
}

// Changes are called with what [HighWater.Run] finds. They must not block.
type Changes struct {
	// Reconnected is called after every reconnect, before anything is sent to the ledger again.
	Reconnected func()
	// SetBack is called when the broker's data was set back. Deliveries received before at are void.
	SetBack func(at time.Time)
}

// Run looks at the broker at once and after every reconnect until ctx is done, then returns nil. It
// is called once.
func (h *HighWater) Run(ctx context.Context, log zerolog.Logger, changes Changes) error {
	defer h.watching.Store(false)
	h.conn.onResume(func() { signal(h.wake) })
	failures := retry.NewOutage(log, "looking at the streams after a reconnect")
	for {
		again := retry.Backoff{Lo: minRebind, Hi: maxRebind}
		for err := h.look(ctx, log, changes); err != nil; err = h.look(ctx, log, changes) {
			failures.Failed(err)
			if retry.Wait(ctx, again.Next()) != nil {
				return nil
			}
		}
		failures.Ended()
		select {
		case <-h.wake:
		case <-ctx.Done():
			return nil
		}
	}
}

// look looks at the broker once. An error means that this has to be tried again.
func (h *HighWater) look(ctx context.Context, log zerolog.Logger, changes Changes) error {
	generation := h.conn.generation()
	if h.watching.Load() {
		changes.Reconnected()
	}
	if err := h.check(ctx, log, changes); err != nil {
		return err
	}
	h.checked.Store(generation)
	h.watching.Store(true)
	return h.current()
}

// current returns an error while the broker was not looked at since the last reconnect.
func (h *HighWater) current() error {
	if h.watching.Load() && h.checked.Load() != h.conn.generation() {
		return errUnchecked
	}
	return nil
}

// mayBeSent returns an error if the settlement of a job that was received at then must not be
// sent now or ever.
func (h *HighWater) mayBeSent(then time.Time) error {
	if h.lost(then) {
		return ledger.ErrSetBack
	}
	return h.current()
}

// lost reports whether the broker's data was set back after then.
func (h *HighWater) lost(then time.Time) bool {
	since := h.since.Load()
	return since != 0 && then.UnixNano() < since
}

// onSetBack registers what is called when the data was found to be set back.
func (h *HighWater) onSetBack(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.setBack = append(h.setBack, f)
}

// delivered notes the sequence of a delivery.
func (h *HighWater) delivered(seq uint64) { h.streams[0].seen(seq) }

// committed notes a group that was stored from sequence first on.
func (h *HighWater) committed(first uint64, writes []ledger.Write) {
	last := first + uint64(len(writes)) - 1
	h.streams[1].seen(last)
	for i := range slices.Backward(writes) {
		if w := &writes[i]; w.ContentType != "" {
			h.mu.Lock()
			h.event, h.at = ledger.Entry{Subject: w.Subject, Seq: first + uint64(i)}, time.Now()
			h.mu.Unlock()
			return
		}
	}
}

// check compares the streams with what is remembered of them, and starts anew if one has gone
// back.
func (h *HighWater) check(ctx context.Context, log zerolog.Logger, changes Changes) error {
	for seen := 1; ; seen++ {
		reason, clustered, err := h.compare(ctx)
		if err != nil || reason == "" {
			return err
		}
		if clustered && seen < confirmations {
			if retry.Wait(ctx, confirmWait) != nil {
				return context.Cause(ctx)
			}
			continue
		}
		log.Error().Str("reason", reason).
			Msg("the broker's data was set back: what is in hand is given up, and nothing remembered counts; jobs that it lost have to be published again")
		return h.restart(ctx, changes)
	}
}

// compare returns why the data must have been set back, empty if it was not.
func (h *HighWater) compare(ctx context.Context) (reason string, clustered bool, err error) {
	for _, mark := range h.streams {
		info, err := h.stream(ctx, mark)
		if err != nil {
			return "", false, err
		}
		if info == nil {
			continue
		}
		clustered = clustered || info.Config.Replicas > 1
		switch {
		case info.Created.Before(mark.created):
			return fmt.Sprintf("stream %s is older than the one that was there", mark.name), clustered, nil
		case info.Created.After(mark.created): // another stream
			mark.created = info.Created
			mark.last.Store(info.State.LastSeq)
		case info.State.LastSeq < mark.last.Load():
			return fmt.Sprintf("stream %s ends at %d and ended at %d before", mark.name, info.State.LastSeq, mark.last.Load()), clustered, nil
		default:
			mark.seen(info.State.LastSeq)
		}
	}
	missing, err := h.eventMissing(ctx)
	if missing {
		reason = "the last event that was committed here is gone"
	}
	return reason, clustered, err
}

// stream looks a stream up: nil if there is none or the right to look is missing.
func (h *HighWater) stream(ctx context.Context, mark *waterMark) (*jetstream.StreamInfo, error) {
	right := "publish " + h.conn.API("STREAM.INFO."+mark.name)
	if h.conn.WasDenied(right) {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	stream, err := h.conn.js.Stream(ctx, mark.name)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound), err != nil && h.conn.WasDenied(right):
		return nil, nil
	case err != nil:
		return nil, h.conn.Explain("look up stream "+mark.name, err)
	}
	return stream.CachedInfo(), nil
}

// eventMissing reports whether the last event that this replica committed, and that must still be
// kept, is not there any more: then the stream was set back, although it may have come further
// again since.
func (h *HighWater) eventMissing(ctx context.Context) (bool, error) {
	h.mu.Lock()
	event, at := h.event, h.at
	h.mu.Unlock()
	if event.Seq == 0 || time.Since(at) > h.eventAge/2 {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	entry, err := upkeep{conn: h.conn}.Newest(ctx, event.Subject)
	if err != nil {
		return false, fmt.Errorf("look for the last event: %w", err)
	}
	return entry.Seq != event.Seq, nil
}

// restart makes what the broker holds the new beginning.
func (h *HighWater) restart(ctx context.Context, changes Changes) error {
	at := time.Now()
	for _, mark := range h.streams {
		info, err := h.stream(ctx, mark)
		if err != nil {
			return err
		}
		mark.created = time.Time{}
		mark.last.Store(0)
		if info != nil {
			mark.created = info.Created
			mark.last.Store(info.State.LastSeq)
		}
	}
	h.since.Store(at.UnixNano())
	h.mu.Lock()
	h.event = ledger.Entry{}
	callbacks := slices.Clone(h.setBack)
	h.mu.Unlock()
	for _, f := range callbacks {
		f()
	}
	changes.SetBack(at)
	return nil
}
