package web

import (
	"fmt"
	"strings"
	"time"

	"rollcall/internal/jobs"
)

// The names of checks that the page knows.
const (
	// CheckWorking says in which phase of its life the replica is.
	CheckWorking = "working"
	// CheckBroker says whether NATS is there.
	CheckBroker = "broker"
	// CheckConsumer says whether the broker answers requests for jobs.
	CheckConsumer = "consumer"
)

// The tones of alerts and pills, as the style sheet has them.
const (
	toneGood = "good"
	toneFair = "fair"
	toneBad  = "bad"
	toneNone = "none"
)

// alert is something that a person should know. Its text holds no age: a screen reader reads
// it out again at every change.
type alert struct {
	// Key stays the same as long as the cause does.
	Key   string
	Tone  string
	Title string
	Text  string
	// Error is a foreign text, and ErrorAt when it came up.
	Error   string
	ErrorAt time.Time
	// Command is what a person may type.
	Command string
}

// alerts lists what is wrong, one alert for one cause, the worst first.
func (s *Status) alerts() (all []alert) {
	all = append(all, s.replicaAlerts()...)
	for _, service := range s.Replica.Services {
		if a, wrong := breakerAlert(service); wrong {
			all = append(all, a)
		}
	}
	if s.Pool != nil && !s.Pool.PausedUntil.IsZero() && s.PoolError == "" {
		all = append(all, alert{
			Key: "paused", Tone: toneFair, Title: "Paused",
			Text: "The broker hands out no jobs until " + clock(s.Pool.PausedUntil) + ". To end that:", Command: "worker resume",
		})
	}
	if len(s.Peers.Mixed) > 0 {
		lines := make([]string, len(s.Peers.Mixed))
		for i, d := range s.Peers.Mixed {
			lines[i] = d.String()
		}
		all = append(all, alert{
			Key: "mixed", Tone: toneFair, Title: "Replicas disagree",
			Text: "The replicas of this pool have different settings. Which services a job needs depends on the replica that takes it.", Error: strings.Join(lines, "; "),
		})
	}
	return all
}

// replicaAlerts says why this replica takes no jobs, or cannot say how the pool is.
func (s *Status) replicaAlerts() []alert {
	failed := map[string]*Check{}
	for i := range s.Checks {
		if c := &s.Checks[i]; !c.OK {
			failed[c.Name] = c
		}
	}
	phase, broker, consumer := failed[CheckWorking], failed[CheckBroker], failed[CheckConsumer]
	switch {
	case phase != nil && s.Replica.Phase == "starting":
		return []alert{{Key: "phase", Tone: toneFair, Title: "Starting", Text: "This replica takes no jobs yet.", Error: phase.Detail}}
	case phase != nil && broker == nil:
		return []alert{{Key: "phase", Tone: toneFair, Title: title(s.Replica.Phase), Text: "This replica takes no more jobs and finishes what it holds."}}
	case broker != nil:
		return []alert{{
			Key: "broker", Tone: toneBad, Title: "No connection to NATS",
			Text: "This replica takes no jobs and tries to connect again. The numbers of the pool are the last known.", Error: broker.Detail,
		}}
	case consumer != nil:
		return []alert{{Key: "consumer", Tone: toneBad, Title: "The broker hands out no jobs", Error: consumer.Detail}}
	case s.PoolError != "":
		return []alert{{
			Key: "pool", Tone: toneBad, Title: "The pool cannot be read",
			Text: "This replica works. The numbers of the pool are the last known.", Error: s.PoolError,
		}}
	default:
		return nil
	}
}

// breakerAlert says that calls to a service are held back.
func breakerAlert(s jobs.ServiceState) (alert, bool) {
	if s.Breaker == jobs.BreakerClosed {
		return alert{}, false
	}
	a := alert{
		Key: "breaker " + s.Name, Tone: toneBad, Title: fmt.Sprintf("%s: breaker %s", s.Name, s.Breaker),
		Text: "Calls are held back, and jobs wait for this service.", Error: s.LastError, ErrorAt: s.LastErrorAt,
	}
	if s.Breaker == jobs.BreakerHalfOpen {
		a.Tone, a.Text = toneFair, "A few calls try whether the service is back."
	}
	if s.Misconfigured {
		a.Title, a.Text = s.Name+": set up wrongly", "The service, or its settings here, must be changed by a person. Until then its jobs wait and lose no attempt."
	}
	if !s.Required {
		a.Tone, a.Text = toneFair, "Calls are held back. The service is optional: jobs go on without its results."
	}
	return a, true
}

// title writes the first letter in upper case.
func title(word string) string {
	if word == "" {
		return ""
	}
	return strings.ToUpper(word[:1]) + word[1:]
}
