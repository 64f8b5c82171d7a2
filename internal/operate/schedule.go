package operate

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
)

// ErrSchedule is returned for a schedule that the server would not take, or would read otherwise
// than it was meant.
var ErrSchedule = errors.New("not a schedule")

// minEvery is the shortest interval that nats-server takes (scheduler.go, parseMsgSchedule).
const minEvery = time.Second

// Schedule is a job that the broker publishes again and again, or once.
type Schedule struct {
	Name string `json:"name"`
	// Subject of the job, under jobs.>.
	Subject string `json:"subject"`
	// Pattern is what stands in the header Nats-Schedule: a cron expression of six fields,
	// seconds first, @every and a duration, or @at and a time.
	Pattern string `json:"pattern"`
	// Zone is the IANA time zone of a cron expression; empty for UTC.
	Zone string `json:"zone,omitempty"`
	// Stored is when the schedule was set.
	Stored time.Time `json:"stored,omitzero"`
	// Next and Last are when the schedule is due next and was last; zero for never.
	Next time.Time `json:"next,omitzero"`
	Last time.Time `json:"last,omitzero"`
}

// NewSchedule checks what a person wrote, of which exactly one may be given: a cron expression,
// an interval, or a time. The error wraps [ErrSchedule].
func NewSchedule(name, subject, expression string, every time.Duration, at time.Time, zone string) (Schedule, error) {
	s := Schedule{Name: name, Subject: subject, Zone: zone}
	if !jobs.ValidSet(name) {
		return s, fmt.Errorf("%w: the name %q; want 1 to 64 letters, digits, _ and -", ErrSchedule, name)
	}
	if err := jobs.CheckSubject(subject); err != nil {
		return s, fmt.Errorf("%w: %w", ErrSchedule, err)
	}
	if _, ok := bus.DueSubject(subject); !ok {
		return s, fmt.Errorf("%w: only jobs on jobs.> can be scheduled, not those on %s", ErrSchedule, subject)
	}
	switch {
	case expression != "" && every == 0 && at.IsZero():
		s.Pattern = expression
		_, err := s.cron()
		return s, err
	case every != 0 && expression == "" && at.IsZero():
		s.Pattern = "@every " + every.String()
		if every < minEvery {
			return s, fmt.Errorf("%w: --every %v; want %v or more", ErrSchedule, every, minEvery)
		}
	case !at.IsZero() && expression == "" && every == 0:
		s.Pattern = bus.OnceAt(at)
	default:
		return s, fmt.Errorf("%w: give one of --cron, --every and --at", ErrSchedule)
	}
	if zone != "" {
		return s, fmt.Errorf("%w: --tz is for --cron; an interval has no time zone, and --at has one of its own", ErrSchedule)
	}
	return s, nil
}

// cronParser reads what nats-server reads: six fields, seconds first, or @daily and its like. The
// server's parser descends from this one (server/cron.go).
func cronParser() cron.Parser {
	return cron.NewParser(cron.Second | cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor)
}

// cron reads a cron expression. The error wraps [ErrSchedule].
func (s *Schedule) cron() (cron.Schedule, error) {
	zone, err := time.LoadLocation(s.Zone)
	if err != nil {
		return nil, fmt.Errorf("%w: the time zone %q; want a name such as Europe/Berlin: %w", ErrSchedule, s.Zone, err)
	}
	if n := len(strings.Fields(s.Pattern)); n == 5 && !strings.HasPrefix(s.Pattern, "@") {
		return nil, fmt.Errorf("%w: %q has five fields; the first of six is the second: write %q", ErrSchedule, s.Pattern, "0 "+s.Pattern)
	}
	if strings.Contains(s.Pattern, "TZ=") || strings.HasPrefix(s.Pattern, "@every") {
		return nil, fmt.Errorf("%w: %q; the time zone is given by --tz and an interval by --every", ErrSchedule, s.Pattern)
	}
	parsed, err := cronParser().Parse(s.Pattern)
	if err != nil {
		return nil, fmt.Errorf("%w: %q; want six fields, seconds first, such as 0 0 3 * * *, or @daily: %w", ErrSchedule, s.Pattern, err)
	}
	if spec, ok := parsed.(*cron.SpecSchedule); ok {
		spec.Location = zone
	}
	return parsed, nil
}

// times works out when the schedule is due next and was last, when it is now. Ticks before it was
// set do not count, and neither does what cannot be read.
func (s *Schedule) times(now time.Time) {
	if text, ok := strings.CutPrefix(s.Pattern, bus.Once); ok {
		if at, err := time.Parse(time.RFC3339, text); err == nil {
			s.Next = at // it is removed once it was due
		}
		return
	}
	if text, ok := strings.CutPrefix(s.Pattern, "@every "); ok {
		every, err := time.ParseDuration(text)
		if err != nil || every < minEvery {
			return
		}
		first := s.Stored.Round(time.Second).Add(every)
		if now.Before(first) {
			s.Next = first
			return
		}
		s.Last = first.Add(now.Sub(first) / every * every)
		s.Next = s.Last.Add(every)
		return
	}
	if parsed, err := s.cron(); err == nil {
		s.Next = parsed.Next(now)
		s.Last = lastTick(parsed, s.Stored, now)
	}
}

// lastTick returns the last tick of a cron expression after stored and not after now, zero for
// none. It looks back twice as far each time it finds none.
func lastTick(parsed cron.Schedule, stored, now time.Time) (last time.Time) {
	const step = time.Minute
	for back := step; ; back *= 2 {
		from := now.Add(-back)
		if from.Before(stored) {
			from = stored
		}
		for tick := parsed.Next(from); !tick.IsZero() && !tick.After(now); tick = parsed.Next(tick) {
			last = tick
		}
		if !last.IsZero() || !from.After(stored) {
			return last
		}
	}
}
