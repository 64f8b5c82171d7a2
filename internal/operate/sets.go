package operate

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
	"rollcall/internal/ledger"
)

// ErrSetName is returned for a text that cannot name a set.
var ErrSetName = errors.New("a set is named by 1 to 64 letters, digits, _ and -")

// setPoll is how often a set that is waited for is looked at, in case that its event is missed.
const setPoll = time.Second

// SetReport is what is known of a set.
type SetReport struct {
	Set string `json:"set"`
	// Outcome is empty while the set is open.
	Outcome jobs.SetOutcome `json:"outcome,omitempty"`
	// Size is how many members were declared, 0 for none yet; Done how many have ended.
	Size      int               `json:"size"`
	Done      int               `json:"done"`
	Counts    jobs.SetCounts    `json:"counts"`
	FirstAt   time.Time         `json:"first_at,omitzero"`
	SettledAt time.Time         `json:"settled_at,omitzero"`
	Failed    []jobs.SetFailure `json:"failed"`
	Truncated bool              `json:"truncated"`
}

// Open reports whether the set has not ended.
func (r *SetReport) Open() bool { return r.Outcome == "" }

func openSet(state ledger.SetState) SetReport {
	t := state.Tally
	return SetReport{
		Set: state.Set, Size: t.Size, Done: t.Counts.Total, Counts: t.Counts, FirstAt: t.FirstAt,
		Failed: append([]jobs.SetFailure{}, t.Failed...), Truncated: t.Truncated,
	}
}

func endedSet(e jobs.SetEvent) SetReport {
	d := e.Data
	return SetReport{
		Set: d.Set, Outcome: d.Outcome, Size: d.Size, Done: d.Counts.Total, Counts: d.Counts,
		FirstAt: d.FirstAt, SettledAt: d.SettledAt, Failed: d.Failed, Truncated: d.Truncated,
	}
}

func (a *Admin) upkeep() ledger.Upkeep {
	return bus.NewUpkeep(a.conn, bus.NewSetup(a.conn, a.streams, a.pool))
}

// checkDone returns an error that wraps [bus.ErrMissing] if there is no stream of events, whose reads
// nobody would answer.
func (a *Admin) checkDone(ctx context.Context) error {
	_, err := a.conn.Stream(ctx, a.conn.Done())
	return err
}

// Sets reads the pool's sets, open ones and those whose event is still stored, at most limit of
// them. more reports that there are others.
func (a *Admin) Sets(ctx context.Context, limit int) (sets []SetReport, more bool, err error) {
	if err := a.checkDone(ctx); err != nil {
		return nil, false, err
	}
	states, more, err := ledger.ReadSets(ctx, a.upkeep(), a.ledger(), limit)
	if err != nil {
		return nil, false, a.conn.Explain("list the sets", err)
	}
	for _, state := range states {
		if !state.Ended {
			sets = append(sets, openSet(state))
			continue
		}
		report, err := a.ended(ctx, state.Set)
		if errors.Is(err, ErrNotFound) {
			continue // its event went before its mark
		}
		if err != nil {
			return nil, false, err
		}
		sets = append(sets, report)
	}
	return sets, more, nil
}

// Set reads one set. The error wraps [ErrNotFound] if none of its members has ended and nobody
// closed it, or if its event has left the DONE stream.
func (a *Admin) Set(ctx context.Context, set string) (SetReport, error) {
	if !jobs.ValidSet(set) {
		return SetReport{}, fmt.Errorf("%q: %w", set, ErrSetName)
	}
	if err := a.checkDone(ctx); err != nil {
		return SetReport{}, err
	}
	state, err := ledger.ReadSet(ctx, a.upkeep(), a.ledger(), set)
	switch {
	case err != nil:
		return SetReport{}, a.conn.Explain("look for set "+set, err)
	case state.Ended:
		return a.ended(ctx, set)
	case state.Known():
		return openSet(state), nil
	default:
		return SetReport{}, fmt.Errorf("set %s of pool %s: %w: none of its members has ended yet, or it never existed, or its event has left the stream", set, a.pool, ErrNotFound)
	}
}

// ended reads the event of a set.
func (a *Admin) ended(ctx context.Context, set string) (SetReport, error) {
	entry, err := a.upkeep().Newest(ctx, bus.SetEventsOf(a.pool, set))
	if err != nil {
		return SetReport{}, a.conn.Explain("read the event of set "+set, err)
	}
	if entry.Seq == 0 {
		return SetReport{}, fmt.Errorf("the event of set %s of pool %s: %w", set, a.pool, ErrNotFound)
	}
	event, err := jobs.DecodeSetEvent(entry.Data)
	if err != nil {
		return SetReport{}, fmt.Errorf("%s: %w", entry.Subject, err)
	}
	return endedSet(event), nil
}

// WaitSet returns when a set has ended, or with the cause of ctx. It calls progress with every
// state that it sees; a set of which nothing is known yet has a zero Size and Done.
func (a *Admin) WaitSet(ctx context.Context, set string, progress func(SetReport)) (SetReport, error) {
	heard := make(chan *nats.Msg, 1) // a set has one event
	sub, err := a.conn.NATS().ChanSubscribe(bus.SetOf(a.pool, set), heard)
	if err != nil {
		return SetReport{}, fmt.Errorf("listen for the end of set %s: %w", set, err)
	}
	defer func() { _ = sub.Unsubscribe() }() // the connection may be gone
	for {
		report, err := a.Set(ctx, set)
		if errors.Is(err, ErrNotFound) {
			report, err = SetReport{Set: set, Failed: []jobs.SetFailure{}}, nil
		}
		if err != nil && ctx.Err() != nil {
			return report, context.Cause(ctx)
		}
		if err != nil || !report.Open() {
			return report, err
		}
		progress(report)
		timer := time.NewTimer(setPoll)
		select {
		case <-heard:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return report, context.Cause(ctx)
		}
		timer.Stop()
	}
}

// CloseSet declares how many members a set has, for a producer that did not know when it sent
// them, and returns the largest size that anybody declared, which counts. The error wraps [ledger.ErrSetEnded] if the
// set has ended.
func (a *Admin) CloseSet(ctx context.Context, set string, size int) (counts int, err error) {
	if !jobs.ValidSet(set) {
		return 0, fmt.Errorf("%q: %w", set, ErrSetName)
	}
	if err := a.checkDone(ctx); err != nil {
		return 0, err
	}
	if _, err := a.asItStands(ctx); err != nil {
		return 0, err
	}
	if counts, err = ledger.CloseSet(ctx, a.upkeep(), a.ledger(), set, size, a.streams.TallyTTL()); err != nil {
		return 0, a.conn.Explain("close set "+set, err)
	}
	if clock, err := a.Clock(ctx); err == nil {
		a.endSet(ctx, set, clock.Now)
	}
	return counts, nil
}

// endSet ends a set if it is complete. Where that fails, the replicas' sweep ends it: they also
// know when it is too old.
func (a *Admin) endSet(ctx context.Context, set string, now func() time.Time) {
	sets := ledger.NewSets(a.upkeep(), ledger.SetsConfig{
		Names: a.ledger(), MaxAge: math.MaxInt64, EventTTL: a.streams.DoneAge, EventSubject: bus.SetEventSubject,
		MaxEvent: func() int { return int(a.conn.NATS().MaxPayload()) - eventHeaders }, Now: now,
	}, zerolog.Nop())
	_ = sets.Look(ctx, set)
}
