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
	// silence runs while no line is to be written, and is nil otherwise.
	silence *time.Timer
	// closed means that no silence begins any more.
	closed bool
	counts jobs.Counts
	// services counts the jobs by the service that decided; jobs that no service decided, as
	// those that cannot be decoded, are in no count of it.
	services map[string]int
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
		if r := &s.Rulings[i]; r.Outcome.Dead() {
			d.add(r)
		}
	}
	if d.silence == nil {
		d.write()
	}
}

func (d *deaths) add(r *jobs.Ruling) {
	d.service, d.reason = r.Service, r.Reason
	if r.Service == "" {
		return
	}
	if d.services == nil {
		d.services = map[string]int{}
	}
	d.services[r.Service]++
}

// write logs the line; it wants the lock held.
func (d *deaths) write() {
	line := d.log.Warn().Int("failed", d.counts.Failed).Int("expired", d.counts.Expired).Int("invalid", d.counts.Invalid)
	if len(d.services) > 0 {
		line.Interface("services", d.services)
	}
	if d.service != "" {
		line.Str("last_service", d.service)
	}
	line.Str("last_reason", jobs.Clip(d.reason, maxReason)).Msg("jobs ended as dead letters")
	d.counts, d.services = jobs.Counts{}, nil
	if !d.closed {
		d.silence = time.AfterFunc(deathsEvery, d.resume)
	}
}

// resume ends the silence, with a line if there is something to say.
func (d *deaths) resume() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.speak()
}

// close ends the silence early and for good.
func (d *deaths) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	if d.silence != nil {
		d.silence.Stop()
		d.speak()
	}
}

// speak ends the silence; it wants the lock held.
func (d *deaths) speak() {
	d.silence = nil
	if d.counts != (jobs.Counts{}) {
		d.write()
	}
}
