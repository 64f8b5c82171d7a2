package operate_test

import (
	"errors"
	"testing"
	"time"

	"rollcall/internal/operate"
)

// TestScheduleTimesGoByTheBrokersClock: what is now, and when the schedule was set, are the broker's;
// the clock of this machine is elsewhere.
func TestScheduleTimesGoByTheBrokersClock(t *testing.T) {
	t.Parallel()
	at := func(text string) time.Time {
		parsed, err := time.Parse(time.RFC3339, text)
		if err != nil && text != "" {
			t.Fatal(err)
		}
		return parsed
	}
	for name, c := range map[string]struct{ pattern, zone, stored, now, next, last string }{
		"cron":                       {"0 0 3 * * *", "", "2031-03-01T00:00:00Z", "2031-03-09T12:00:00Z", "2031-03-10T03:00:00Z", "2031-03-09T03:00:00Z"},
		"cron, a minute before":      {"0 0 3 * * *", "", "2031-03-01T00:00:00Z", "2031-03-09T02:59:00Z", "2031-03-09T03:00:00Z", "2031-03-08T03:00:00Z"},
		"cron, not due yet":          {"0 0 3 * * *", "", "2031-03-09T04:00:00Z", "2031-03-09T12:00:00Z", "2031-03-10T03:00:00Z", ""},
		"cron in winter":             {"0 0 3 * * *", "Europe/Berlin", "2031-03-01T00:00:00Z", "2031-03-29T12:00:00Z", "2031-03-30T01:00:00Z", "2031-03-29T02:00:00Z"},
		"an hour that there is not":  {"0 30 2 * * *", "Europe/Berlin", "2031-03-01T00:00:00Z", "2031-03-30T12:00:00Z", "2031-03-31T00:30:00Z", "2031-03-29T01:30:00Z"},
		"once a year":                {"0 0 0 29 2 *", "", "2024-01-01T00:00:00Z", "2031-03-01T00:00:00Z", "2032-02-29T00:00:00Z", "2028-02-29T00:00:00Z"},
		"an interval":                {"@every 5m", "", "2031-03-09T12:00:00Z", "2031-03-09T12:11:00Z", "2031-03-09T12:15:00Z", "2031-03-09T12:10:00Z"},
		"an interval, not due yet":   {"@every 5m", "", "2031-03-09T12:00:00Z", "2031-03-09T12:04:00Z", "2031-03-09T12:05:00Z", ""},
		"a time":                     {"@at 2031-03-09T12:00:00Z", "", "2031-03-01T00:00:00Z", "2031-03-09T11:59:00Z", "2031-03-09T12:00:00Z", ""},
		"what others wrote, no cron": {"whenever", "", "2031-03-01T00:00:00Z", "2031-03-09T11:59:00Z", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := operate.Schedule{Pattern: c.pattern, Zone: c.zone, Stored: at(c.stored)}
			operate.ScheduleTimes(&s, at(c.now))
			if next, last := at(c.next), at(c.last); !s.Next.Equal(next) || !s.Last.Equal(last) {
				t.Errorf("next %v, last %v; want %v and %v", s.Next, s.Last, next, last)
			}
		})
	}
}

// TestATimeZoneIsForCronOnly: the server refuses it beside an interval and a time.
func TestATimeZoneIsForCronOnly(t *testing.T) {
	t.Parallel()
	if _, err := operate.NewSchedule("a", "jobs.x", "@daily", 0, time.Time{}, "Europe/Berlin"); err != nil {
		t.Error(err)
	}
	for _, s := range []struct {
		every time.Duration
		at    time.Time
	}{{time.Minute, time.Time{}}, {0, time.Now()}} {
		if _, err := operate.NewSchedule("a", "jobs.x", "", s.every, s.at, "Europe/Berlin"); !errors.Is(err, operate.ErrSchedule) {
			t.Errorf("%+v: %v, want ErrSchedule", s, err)
		}
	}
}
