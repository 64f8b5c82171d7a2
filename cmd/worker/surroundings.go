package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"rollcall/internal/app"
	"rollcall/internal/devkit"
	"rollcall/internal/history"
	"rollcall/internal/telemetry"
)

const (
	// steadyDelay is how long the steady demo service takes.
	steadyDelay = 20 * time.Millisecond
	// flakySeed makes the flaky demo service the same in every run.
	flakySeed = 1
	// anyPort asks for a free port on loopback.
	anyPort = "127.0.0.1:0"
)

// demoService is a demo service with the name that the pool knows it by.
type demoService struct {
	name    string
	service *devkit.Service
	journal *devkit.Journal
}

// surroundings are a broker and the demo services, in this process and on loopback.
type surroundings struct {
	server   *devkit.Server
	services []demoService
	flaky    *devkit.Flaky
}

// surround starts a broker and the demo services. With journals the services note every call.
// The caller owes a call of stop.
func surround(ctx context.Context, o devkit.Options, journals bool) (*surroundings, error) {
	server, err := devkit.Start(ctx, o)
	if err != nil {
		return nil, err
	}
	s := &surroundings{server: server, flaky: devkit.NewFlaky(flakySeed)}
	for name, behaviour := range demoBehaviours(s.flaky) {
		var journal *devkit.Journal
		if journals {
			journal = devkit.NewJournal(name)
		}
		service, err := devkit.Serve(ctx, anyPort, behaviour, journal)
		if err != nil {
			return nil, errors.Join(err, s.stop())
		}
		s.services = append(s.services, demoService{name, service, journal})
	}
	return s, nil
}

// demoBehaviours are the demo services by name.
func demoBehaviours(flaky *devkit.Flaky) map[string]devkit.Behaviour {
	return map[string]devkit.Behaviour{
		"fast":   devkit.Fast(),
		"steady": devkit.Steady(steadyDelay),
		"flaky":  flaky.Answer,
	}
}

// env is the settings of a pool in these surroundings. Retries come soon: the flaky service is
// never really down.
func (s *surroundings) env() []string {
	services := make([]string, len(s.services))
	for i, demo := range s.services {
		services[i] = demo.name + "=" + demo.service.URL()
	}
	slices.Sort(services)
	return []string{
		"NATS_URL=" + s.server.URL(),
		"ROLLCALL_SERVICES=" + strings.Join(services, ","),
		"ROLLCALL_RETRY_MIN=50ms",
		"ROLLCALL_RETRY_MAX=500ms",
	}
}

// calls returns what the services noted.
func (s *surroundings) calls() []history.Call {
	var all []history.Call
	for _, demo := range s.services {
		all = append(all, demo.journal.Calls()...)
	}
	return all
}

// stop ends everything and waits for it.
func (s *surroundings) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), goodbye)
	defer cancel()
	var faults []error
	for _, demo := range s.services {
		faults = append(faults, demo.service.Shutdown(ctx))
	}
	s.server.Shutdown()
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("stop the surroundings: %w", err)
	}
	return nil
}

// startReplicas runs one replica for each of the settings until drain is called or ctx is done.
// The failure of one is handed to fail.
func (c *cli) startReplicas(ctx context.Context, fail context.CancelCauseFunc, settings ...app.Config) (running *sync.WaitGroup, drain func()) {
	ctx, drain = context.WithCancel(ctx)
	running = new(sync.WaitGroup)
	for i, cfg := range settings {
		running.Go(func() {
			options := c.runOptions()
			options.Replica = fmt.Sprintf("replica-%d", i+1)
			if err := app.Run(ctx, cfg, telemetry.NewLogger(cfg.Log, c.stderr), options); err != nil {
				fail(fmt.Errorf("%s: %w", options.Replica, err))
			}
		})
	}
	return running, drain
}
