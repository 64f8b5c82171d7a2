package app

import (
	"sync"

	"rollcall/internal/service"
	"rollcall/internal/web"
)

// phase is where a replica is in its life. It only moves forward.
type phase int

const (
	starting phase = iota
	working
	draining
	ended
)

var phaseNames = [...]string{"starting", "working", "draining", "ended"}

// String names the phase.
func (p phase) String() string { return phaseNames[p] }

var phaseDetails = [...]string{"connecting to the broker", "", "draining", "ended"}

// checked is a part that knows whether it is well.
type checked interface{ Healthy() error }

// health answers the health pages from the live parts of a replica. It implements [web.Prober].
type health struct {
	mu       sync.Mutex
	phase    phase
	broker   checked
	consumer checked
	services []*service.Service
}

// work says that everything is bound and the pool begins.
func (h *health) work(broker, consumer checked, services []*service.Service) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.phase, h.broker, h.consumer, h.services = max(h.phase, working), broker, consumer, services
}

// enter moves on to a later phase.
func (h *health) enter(p phase) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.phase = max(h.phase, p)
}

// at returns the phase.
func (h *health) at() phase {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.phase
}

// Alive implements [web.Prober].
func (h *health) Alive() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.phase < ended
}

// Report implements [web.Prober].
func (h *health) Report() web.Report {
	h.mu.Lock()
	at, broker, consumer, services := h.phase, h.broker, h.consumer, h.services
	h.mu.Unlock()
	report := web.Report{Checks: []web.Check{
		{Name: web.CheckWorking, OK: at == working, Detail: phaseDetails[at]},
		check(web.CheckBroker, broker),
		check(web.CheckConsumer, consumer),
	}}
	if broker != nil && !report.Checks[1].OK {
		report.Checks[2] = web.Check{Name: web.CheckConsumer, Detail: "unknown without the broker"}
	}
	report.Ready = true
	for _, c := range report.Checks {
		report.Ready = report.Ready && c.OK
	}
	for _, s := range services {
		report.Services = append(report.Services, s.State())
	}
	return report
}

func check(name string, part checked) web.Check {
	if part == nil {
		return web.Check{Name: name, Detail: "not yet"}
	}
	if err := part.Healthy(); err != nil {
		return web.Check{Name: name, Detail: err.Error()}
	}
	return web.Check{Name: name, OK: true}
}
