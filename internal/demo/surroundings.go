// Package demo is a broker, microservices and a pool in one process, on loopback: what `worker demo`
// checks and `worker dev` leaves running.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
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
	// FlakySeed makes the flaky demo service the same in every run.
	FlakySeed = 1
	// stopTimeout bounds the end of the services.
	stopTimeout = 3 * time.Second
	// AnyPort asks for a free port on loopback.
	AnyPort = "127.0.0.1:0"
)

// demoService is a demo service with the name that the pool knows it by.
type demoService struct {
	name    string
	service *devkit.Service
	journal *devkit.Journal
}

// Surroundings are a broker and the demo services, in this process and on loopback.
type Surroundings struct {
	Server   *devkit.Server
	services []demoService
	Flaky    *devkit.Flaky
}

// Surround starts a broker and the demo services. With journals the services note every call.
// The caller owes a call of Stop.
func Surround(ctx context.Context, o devkit.Options, journals bool) (*Surroundings, error) {
	server, err := devkit.Start(ctx, o)
	if err != nil {
		return nil, err
	}
	s := &Surroundings{Server: server, Flaky: devkit.NewFlaky(FlakySeed)}
	for name, behaviour := range Behaviours(s.Flaky) {
		var journal *devkit.Journal
		if journals {
			journal = devkit.NewJournal(name)
		}
		service, err := devkit.Serve(ctx, AnyPort, behaviour, journal)
		if err != nil {
			return nil, errors.Join(err, s.Stop())
		}
		s.services = append(s.services, demoService{name, service, journal})
	}
	return s, nil
}

// Behaviours are the demo services by name.
func Behaviours(flaky *devkit.Flaky) map[string]devkit.Behaviour {
	return map[string]devkit.Behaviour{
		"fast":   devkit.Fast(),
		"steady": devkit.Steady(steadyDelay),
		"flaky":  flaky.Answer,
	}
}

// Env is the settings of a pool in these surroundings.
func (s *Surroundings) Env() []string {
	services := make([]string, len(s.services))
	for i, demo := range s.services {
		services[i] = demo.name + "=" + demo.service.URL()
	}
	slices.Sort(services)
	return []string{"NATS_URL=" + s.Server.URL(), "ROLLCALL_SERVICES=" + strings.Join(services, ",")}
}

// Calls returns what the services noted.
func (s *Surroundings) Calls() []history.Call {
	var all []history.Call
	for _, demo := range s.services {
		all = append(all, demo.journal.Calls()...)
	}
	return all
}

// Stop ends everything and waits for it.
func (s *Surroundings) Stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	var faults []error
	for _, demo := range s.services {
		faults = append(faults, demo.service.Shutdown(ctx))
	}
	s.Server.Shutdown()
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("stop the surroundings: %w", err)
	}
	return nil
}

// Replicas runs one replica for each of the settings until drain is called or ctx is done, with
// their logs on log. The failure of one is handed to fail.
func Replicas(ctx context.Context, fail context.CancelCauseFunc, log io.Writer, options app.Options, settings ...app.Config) (running *sync.WaitGroup, drain func()) {
	ctx, drain = context.WithCancel(ctx)
	running = new(sync.WaitGroup)
	for i, cfg := range settings {
		running.Go(func() {
			own := options
			own.Replica = fmt.Sprintf("replica-%d", i+1)
			if err := app.Run(ctx, cfg, telemetry.NewLogger(cfg.Log, log), own); err != nil {
				fail(fmt.Errorf("%s: %w", own.Replica, err))
			}
		})
	}
	return running, drain
}
