package main

import (
	"fmt"
	"strings"
	"time"

	"rollcall/bench/lab"
)

// workload is one question put to several contenders.
type workload struct {
	name, title string
	// scale is the share of the session's jobs that a run takes: slower work takes fewer.
	scale float64
	cases []benchCase
	bars  []bar
}

// benchCase is one contender at one setting. The first of a workload is what the others are
// put in proportion to.
type benchCase struct {
	label string
	floor bool
	spec  lab.Spec
	// scale is a further share of the jobs; 0 = all of them.
	scale float64
}

// base is W1: jobs of 256 bytes, three services that answer at once, and the worker's own
// batch size. A short linger lets the last, incomplete batches of a drain go.
func base() lab.Spec {
	return lab.Spec{Payload: 256, Batch: 96, InFlight: 8, Linger: 5 * time.Millisecond, Replicas: 1, Services: 3}
}

func with(change func(*lab.Spec)) lab.Spec {
	s := base()
	change(&s)
	return s
}

func versus(spec lab.Spec) []benchCase {
	return []benchCase{floor("floor", spec), pool("pool", spec)}
}

func floor(label string, spec lab.Spec) benchCase {
	return benchCase{label: label, floor: true, spec: spec}
}

func pool(label string, spec lab.Spec) benchCase { return benchCase{label: label, spec: spec} }

func describeWorkloads() string {
	var b strings.Builder
	for _, w := range workloads() {
		fmt.Fprintf(&b, "  %-5s %s\n", w.name, w.title)
	}
	return b.String()
}

func workloads() []workload {
	return []workload{
		{
			name: "W1", title: "256 B jobs waiting, batches of 96, three services that answer at once", scale: 1,
			cases: versus(base()),
			bars: []bar{
				{text: "jobs/s against the floor", of: "pool", against: "floor", metric: jobsPerSecond, limit: 0.70, atLeast: true},
				{text: "worker CPU per job against the floor", of: "pool", against: "floor", metric: workerCPU, limit: 2},
				{text: "peak RSS in MiB", of: "pool", metric: peakMiB, limit: 64},
			},
		},
		{
			name: "W2", title: "as W1, services answer after 20 ms ± 5 ms, 64 batches in flight", scale: 1,
			cases: versus(with(func(s *lab.Spec) { slow(s); s.InFlight = 64 })),
			bars:  []bar{{text: "jobs/s against the floor", of: "pool", against: "floor", metric: jobsPerSecond, limit: 0.95, atLeast: true}},
		},
		{
			name: "W3", title: "as W1, batches of one", scale: 0.025,
			cases: versus(with(func(s *lab.Spec) { s.Batch = 1 })),
			bars:  []bar{{text: "jobs/s against the floor", of: "pool", against: "floor", metric: jobsPerSecond, limit: 0.5, atLeast: true}},
		},
		latency(), replicas(), retries(),
		{
			name: "batch", title: "a full batch of 96 at once, every 200 ms, for an idle replica: time from publish to event", scale: 0.005,
			cases: versus(with(func(s *lab.Spec) { s.Rate, s.Burst = 480, 96 })),
		},
		{
			name: "idle", title: "a replica that has nothing to do",
			cases: []benchCase{pool("pool", with(func(s *lab.Spec) { s.Idle = 10 * time.Second }))},
			bars:  []bar{{text: "CPU in % of a core", of: "pool", metric: idleCPU, limit: 0.5}},
		},
	}
}

func latency() workload {
	at := func(linger time.Duration) lab.Spec {
		return with(func(s *lab.Spec) { s.Rate, s.Linger = 2000, linger })
	}
	w := workload{
		name: "W4", title: "2,000 jobs/s, time from publish to event, linger 0 and 5 ms", scale: 0.05,
		cases: []benchCase{
			floor("floor, no linger", at(0)), pool("pool, no linger", at(0)),
			floor("floor, 5 ms", at(5*time.Millisecond)), pool("pool, 5 ms", at(5*time.Millisecond)),
		},
	}
	for _, linger := range []string{", no linger", ", 5 ms"} {
		w.bars = append(w.bars,
			bar{text: "p50 in ms above the floor's" + linger, of: "pool" + linger, against: "floor" + linger, metric: p50, limit: 5, difference: true},
			bar{text: "p99 against the floor" + linger, of: "pool" + linger, against: "floor" + linger, metric: p99, limit: 3})
	}
	return w
}

// replicas compares one replica with several. Four that send batches of 96 as fast as their
// services answer would use more than the two cores this is made for, so the bar is on small
// batches; and slower services show what replicas are worth where cores are not the limit.
func replicas() workload {
	n := func(n, batch int, delay time.Duration) lab.Spec {
		return with(func(s *lab.Spec) { s.Replicas, s.Batch, s.Delay, s.Jitter = n, batch, delay, delay/4 })
	}
	const small, answer, slow = 8, 20 * time.Millisecond, 60 * time.Millisecond
	w := workload{name: "W5", title: "replicas of 8 slots each, services answer after 20 ms ± 5 ms", scale: 0.25}
	for _, count := range []int{1, 2, 4} {
		c := pool(fmt.Sprintf("pool ×%d, batches of 8", count), n(count, small, answer))
		c.scale = 0.4
		w.cases = append(w.cases, c)
	}
	for _, count := range []int{1, 4} {
		c := pool(fmt.Sprintf("pool ×%d, batches of 8, 60 ms", count), n(count, small, slow))
		c.scale = 0.1
		w.cases = append(w.cases, c)
	}
	for _, count := range []int{1, 4} {
		w.cases = append(w.cases,
			pool(fmt.Sprintf("pool ×%d", count), n(count, 96, answer)), floor(fmt.Sprintf("floor ×%d", count), n(count, 96, answer)))
	}
	for _, of := range []string{", batches of 8", ", batches of 8, 60 ms"} {
		w.bars = append(w.bars, bar{
			text: "four replicas against one" + of, of: "pool ×4" + of, against: "pool ×1" + of,
			metric: jobsPerSecond, limit: 3.5, atLeast: true,
		})
	}
	return w
}

func retries() workload {
	return workload{
		name: "W6", title: "as W1, 10 % of the jobs need a second attempt", scale: 1,
		cases: []benchCase{
			pool("pool, W1", base()),
			pool("pool, 10 % retried", with(func(s *lab.Spec) { s.RetryShare = 0.1 })),
		},
		bars: []bar{{text: "jobs/s against our own W1", of: "pool, 10 % retried", against: "pool, W1", metric: jobsPerSecond, limit: 0.8, atLeast: true}},
	}
}
