package lab

import (
	"fmt"
	"time"

	"rollcall/bench/proc"
)

// usage is the processor time that each party has used.
type usage struct{ worker, broker, services time.Duration }

func (l *Lab) usage() (usage, error) {
	var u usage
	var err error
	if u.worker, err = total(l.replicas); err != nil {
		return u, err
	}
	if u.broker, err = l.broker.CPU(); err != nil {
		return u, fmt.Errorf("account for the broker: %w", err)
	}
	if u.services, err = l.serving.CPU(); err != nil {
		return u, fmt.Errorf("account for the services: %w", err)
	}
	return u, nil
}

func total(replicas []*proc.Process) (time.Duration, error) {
	var sum time.Duration
	for _, p := range replicas {
		d, err := p.CPU()
		if err != nil {
			return 0, fmt.Errorf("account for the replicas: %w", err)
		}
		sum += d
	}
	return sum, nil
}

// account fills in what was used since before, shared out over the jobs.
func (l *Lab) account(r *Result, before usage) error {
	after, err := l.usage()
	if err != nil {
		return err
	}
	perJob := func(before, after time.Duration) float64 {
		return float64((after - before).Nanoseconds()) / 1e3 / float64(max(1, r.Jobs))
	}
	r.WorkerCPU = perJob(before.worker, after.worker)
	r.BrokerCPU = perJob(before.broker, after.broker)
	r.ServicesCPU = perJob(before.services, after.services)
	for _, p := range l.replicas {
		rss, err := p.PeakRSS()
		if err != nil {
			return fmt.Errorf("account for the replicas: %w", err)
		}
		r.PeakRSS = max(r.PeakRSS, rss)
	}
	if r.BrokerRSS, err = l.broker.PeakRSS(); err != nil {
		return fmt.Errorf("account for the broker: %w", err)
	}
	return nil
}
