package ledger

import (
	"context"
	"fmt"
	"time"

	"rollcall/internal/jobs"
)

// ending is the end of a set, or of the tallies that were counted after its end.
type ending struct {
	set     string
	members int
	// outcome is empty where the set has ended before.
	outcome jobs.SetOutcome
	// writes are nil where there is nothing to do.
	writes []Write
}

func (e *ending) bytes() (n int) {
	for i := range e.writes {
		n += len(e.writes[i].Data)
	}
	return n
}

// ending works out what ends a set: its tallies are given an end, and unless it has ended before
// its end mark and its event are written, all or nothing.
func (s *Sets) ending(state *SetState) (ending, error) {
	e := ending{set: state.Set, members: state.Tally.Counts.Total}
	outcome, ends := s.rule(state)
	if !ends && !state.Ended {
		return e, nil
	}
	tallies, err := endTallies(state)
	if err != nil || state.Ended {
		if len(tallies) > 0 {
			e.writes = tallies
		}
		return e, err
	}
	event := jobs.NewSetEvent(s.cfg.Pool, state.Set, state.Tally, outcome, s.cfg.Now())
	data, err := event.Encode(s.cfg.MaxEvent())
	if err != nil {
		return e, err
	}
	e.outcome = outcome
	e.writes = append(tallies,
		Write{Subject: s.cfg.set(state.Set, setEnd), TTL: s.markTTL(), Data: []byte(outcome)},
		Write{Subject: s.cfg.EventSubject(s.cfg.Pool, outcome, state.Set), TTL: s.cfg.EventTTL, ContentType: jobs.MediaEvent, Data: data})
	return e, nil
}

// markTTL is how long a set's end mark is kept: as long as its event, and longer than its tallies, which
// would else be those of an open set. 0 = as long as the stream says.
func (s *Sets) markTTL() time.Duration {
	if s.cfg.EventTTL == 0 {
		return 0
	}
	return max(s.cfg.EventTTL, 2*endedTTL)
}

// end writes the ends of sets, all or none of them.
func (s *Sets) end(ctx context.Context, group []ending) error {
	var writes []Write
	for i := range group {
		writes = append(writes, group[i].writes...)
	}
	if _, err := s.store.Apply(ctx, writes); err != nil {
		return fmt.Errorf("end set %s and %d more: %w", group[0].set, len(group)-1, err)
	}
	for _, e := range group {
		if e.outcome == "" {
			continue
		}
		s.log.Debug().Str("set", e.set).Str("outcome", string(e.outcome)).Int("members", e.members).Msg("set ended")
		if s.cfg.OnEnd != nil {
			s.cfg.OnEnd(e.set, e.outcome, e.members)
		}
	}
	return nil
}

// endTallies writes the tallies of a set anew, as ended, to be removed soon. Each expects to be the
// one that was read. Tallies that are marked already are not written again: they expire soon.
func endTallies(state *SetState) ([]Write, error) {
	writes := make([]Write, 0, len(state.lanes)+2)
	for i := range state.lanes[:min(len(state.lanes), maxFenced)] {
		l := &state.lanes[i]
		if l.tally.Ended {
			continue
		}
		ended := l.tally
		ended.Ended = true
		data, err := ended.Encode()
		if err != nil {
			return nil, err
		}
		writes = append(writes, Write{Subject: l.subject, Expect: l.seq, TTL: endedTTL, Data: data})
	}
	return writes, nil
}
