package telemetry

import (
	"sync"
	"time"

	"github.com/rs/zerolog"

	"rollcall/internal/jobs"
)

const (
	// deathsEvery bounds the lines about jobs that ended as dead letters.
	deathsEvery = 10 * time.Second
	// maxReason is how much of a reason stands in such a line, in bytes.
	maxReason = 200
)

// deaths reports jobs that ended as dead letters: the first at once, those of the next while in
// one line at its end, and so on.
type deaths struct {
	log zerolog.Logger

	mu sync.Mutex
	// quiet is set while no line is to be written.
	quiet  bool
	counts jobs.Counts
	// service and reason are those of the last.
	service, reason string
}

// note counts what died in a batch.
func (d *deaths) note(s *jobs.Settlement, counts jobs.Counts) {
	if counts.Dead() == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.counts.Failed += counts.Failed
	d.counts.Expired += counts.Expired
	d.counts.Invalid += counts.Invalid
	for i := range s.Rulings {
		if r := &s.Rulings[i]; r.Outcome == jobs.Failed || r.Outcome == jobs.Expired || r.Outcome == jobs.Invalid {
			d.service, d.reason = r.Service, r.Reason
		}
	}
	if !d.quiet {
		d.write()
	}
}

// write logs the line; it wants the lock held.
func (d *deaths) write() {
	line := d.log.Warn().Int("failed", d.counts.Failed).Int("expired", d.counts.Expired).Int("invalid", d.counts.Invalid)
	if d.service != "" {
		line.Str("service", d.service)
	}
	line.Str("reason", jobs.Clip(d.reason, maxReason)).Msg("jobs ended as dead letters")
	d.counts, d.quiet = jobs.Counts{}, true
	time.AfterFunc(deathsEvery, d.resume)
}

// resume ends the silence, with a line if there is something to say.
func (d *deaths) resume() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.quiet = false
	if d.counts != (jobs.Counts{}) {
		d.write()
	}
}
