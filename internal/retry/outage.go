package retry

import (
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// logAfter is how long something is retried in silence: longer than an election among healthy
// servers takes, shorter than the patience of an operator.
const logAfter = 10 * time.Second

// Outage logs once that something has failed for long, and once that it works again. It is safe
// for concurrent use; any success ends it for all.
type Outage struct {
	log  zerolog.Logger
	what string

	mu     sync.Mutex
	since  time.Time
	logged bool
}

// NewOutage returns an outage that has not begun. what names the work in the log, for example
// "reading the ledger".
func NewOutage(log zerolog.Logger, what string) *Outage { return &Outage{log: log, what: what} }

// Failed notes a failure.
func (o *Outage) Failed(err error) { o.FailedAt(time.Now(), err) }

// FailedAt notes a failure at now.
func (o *Outage) FailedAt(now time.Time, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.since.IsZero() {
		o.since = now
	}
	if !o.logged && now.Sub(o.since) >= logAfter {
		o.logged = true
		o.log.Warn().Err(err).Msg(o.what + " fails, retrying")
	}
}

// Ended notes a success.
func (o *Outage) Ended() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.logged {
		o.log.Info().Stringer("lasted", time.Since(o.since).Round(time.Millisecond)).Msg(o.what + " works again")
	}
	o.since, o.logged = time.Time{}, false
}
