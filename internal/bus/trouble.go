package bus

import (
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// tellAfter is how long something is retried in silence: longer than an election among
// healthy servers takes, shorter than the patience of whoever looks on.
const tellAfter = 10 * time.Second

// trouble tells a person once that something is retried for long, and once that it works
// again. It is safe for concurrent use; any success counts for all.
type trouble struct {
	log  zerolog.Logger
	what string

	mu    sync.Mutex
	since time.Time
	told  bool
}

// met notes a failure.
func (t *trouble) met(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if t.since.IsZero() {
		t.since = now
	}
	if !t.told && now.Sub(t.since) >= tellAfter {
		t.told = true
		t.log.Warn().Err(err).Msg(t.what + " fails, retrying")
	}
}

// over notes a success.
func (t *trouble) over() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.told {
		t.log.Info().Dur("lasted", time.Since(t.since)).Msg(t.what + " works again")
	}
	t.since, t.told = time.Time{}, false
}
