package operate

import (
	"context"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
	"rollcall/internal/ledger"
)

// eraseMembers takes what names the jobs out of the tallies and the events of sets, and notes the
// uids of these. The tallies come first: the set may end meanwhile.
func (a *Admin) eraseMembers(ctx context.Context, e *erasing, done *Erasure) error {
	named := func(f *jobs.SetFailure) bool { return !f.Erased && e.takes(f.UID, f.ID, "") }
	n, err := ledger.EraseMembers(ctx, a.upkeep(), a.ledger(), named, a.streams.TallyTTL())
	if done.Sets += n; err != nil {
		return a.conn.Explain("erase job "+e.id+" in the tallies of sets", err)
	}
	found, err := a.storedEvents(ctx, a.conn.Done(), bus.SetEventsOf(a.pool, "*"), func(data []byte) (speaks bool) {
		event, err := jobs.DecodeSetEvent(data)
		if err != nil {
			return false // not an event of ours
		}
		for i := range event.Data.Failed {
			speaks = named(&event.Data.Failed[i]) || speaks
		}
		return speaks
	})
	if err != nil {
		return err
	}
	for _, m := range found {
		if err := a.rewrite(ctx, m, redactedSet, e.uids); err != nil {
			return err
		}
		done.Sets++
	}
	return nil
}
