package ledger

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Retention is how long a replica needs the ledger to remember.
type Retention struct {
	// Horizon is how long a stalled replica may sleep and must still be refused.
	Horizon time.Duration
	// TTL is how long a job that ended is recognised as done.
	TTL time.Duration
}

// Retentions makes the longest retention of all replicas the one that counts, so that a deploy
// with a shorter one does not cut the memory of a replica that stalls meanwhile. Every replica
// stores its own in a record that outlives it by more than its horizon; replicas with the
// same retention share the record.
type Retentions struct {
	store Upkeep
	names Names
	own   Retention

	mu      sync.Mutex
	longest Retention
}

// NewRetentions returns those of a replica that needs own.
func NewRetentions(store Upkeep, names Names, own Retention) *Retentions {
	return &Retentions{store: store, names: names, own: own, longest: own}
}

const (
	// renewTries is how often a record is tried to be renewed: others with the same retention
	// renew it too.
	renewTries = 3
	// retentionGrace is added to the life of a record.
	retentionGrace = time.Minute
)

// Longest returns the longest retention that [Retentions.Renew] has found, at first the own one.
func (r *Retentions) Longest() Retention {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.longest
}

// TTL returns how long a page of final jobs is kept.
func (r *Retentions) TTL() time.Duration {
	longest := r.Longest()
	return max(longest.TTL, longest.Horizon)
}

// Renew stores the own retention and reads those of all replicas that did so lately. It must
// be called before the replica takes jobs, and at least once per horizon. After an error the
// longest retention is not known: nothing may be removed.
func (r *Retentions) Renew(ctx context.Context) (Retention, error) {
	if err := r.write(ctx); err != nil {
		return Retention{}, fmt.Errorf("write down how long the ledger is needed: %w", err)
	}
	longest, err := longestOf(ctx, r.store, r.names, r.own)
	if err != nil {
		return Retention{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.longest = longest
	return longest, nil
}

// longestOf returns the longest of own and of those that are recorded for a ledger.
func longestOf(ctx context.Context, store Upkeep, names Names, own Retention) (Retention, error) {
	longest := own
	err := scan(ctx, store, names.retentions(), 1, func(e Entry) error {
		if other, ok := parseRetention(e.Subject); ok {
			longest.Horizon, longest.TTL = max(longest.Horizon, other.Horizon), max(longest.TTL, other.TTL)
		}
		return nil
	})
	if err != nil {
		return Retention{}, fmt.Errorf("read how long the ledger is needed: %w", err)
	}
	return longest, nil
}

// write renews the record of the own retention.
func (r *Retentions) write(ctx context.Context) error {
	w := Write{
		Subject: r.names.retention(r.own),
		TTL:     2*r.own.Horizon + retentionGrace,
		Data:    fmt.Appendf(nil, "ROLLCALL_ZOMBIE_HORIZON=%v ROLLCALL_LEDGER_TTL=%v", r.own.Horizon, r.own.TTL),
	}
	var err error
	for range renewTries {
		var entries []Entry
		if entries, err = r.store.Read(ctx, []string{w.Subject}); err != nil {
			return err
		}
		w.Expect = 0
		if len(entries) > 0 {
			w.Expect = entries[0].Seq
		}
		if _, err = r.store.Apply(ctx, []Write{w}); !errors.Is(err, ErrStale) {
			return err
		}
	}
	return err
}

// retention is where a retention is recorded:
// done.ledger.<pool>.retention.<stream>.<horizon>.<ttl>, both in milliseconds.
func (n Names) retention(r Retention) string {
	return "done.ledger." + n.Pool + ".retention." + n.Stream + "." +
		strconv.FormatInt(r.Horizon.Milliseconds(), 10) + "." + strconv.FormatInt(r.TTL.Milliseconds(), 10)
}

// retentions matches every retention of the ledger.
func (n Names) retentions() string {
	return "done.ledger." + n.Pool + ".retention." + n.Stream + ".*.*"
}

func parseRetention(subject string) (Retention, bool) {
	tokens := strings.Split(subject, ".")
	if len(tokens) != 7 {
		return Retention{}, false
	}
	horizon, err := strconv.ParseInt(tokens[5], 10, 63)
	ttl, err2 := strconv.ParseInt(tokens[6], 10, 63)
	if err != nil || err2 != nil || horizon < 0 || ttl < 0 || max(horizon, ttl) > int64(1<<63-1)/int64(time.Millisecond) {
		return Retention{}, false
	}
	return Retention{Horizon: time.Duration(horizon) * time.Millisecond, TTL: time.Duration(ttl) * time.Millisecond}, true
}
