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

// who names a contender.
type who int

const (
	worker who = iota
	floor
	simple
)

// benchCase is one contender at one setting. The first of a workload is what the others are
// put in proportion to.
type benchCase struct {
	label string
	who   who
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
	return []benchCase{{label: "floor", who: floor, spec: spec}, {label: "pool", spec: spec}}
}

// against is versus for several settings, whose labels differ by a suffix.
func against(suffix string, spec lab.Spec, scale float64) []benchCase {
	return []benchCase{{label: "floor" + suffix, who: floor, spec: spec, scale: scale}, {label: "pool" + suffix, spec: spec, scale: scale}}
}

// speed is a bar on jobs/s against the floor.
func speed(suffix string, limit float64) bar {
	return bar{text: "jobs/s against the floor" + suffix, of: "pool" + suffix, against: "floor" + suffix, metric: jobsPerSecond, limit: limit, atLeast: true}
}

func describeWorkloads() string {
	var b strings.Builder
	for _, w := range workloads() {
		fmt.Fprintf(&b, "  %-5s %s\n", w.name, w.title)
	}
	return b.String()
}

func workloads() []workload {
	return []workload{
		backlog(),
		{
			name: "W2", title: "as W1, services answer after 20 ms ± 5 ms, 64 batches in flight", scale: 0.5,
			cases: versus(with(func(s *lab.Spec) { slow(s); s.InFlight = 64 })),
			bars:  []bar{speed("", 0.75)},
		},
		{
			name: "W3", title: "as W1, batches of one", scale: 0.025,
			cases: versus(with(func(s *lab.Spec) { s.Batch = 1 })),
			bars:  []bar{speed("", 0.65)},
		},
		latency("W4", "a file store", 1), replicas(), retries(), sets(), clusters(), payloads(), latency("W4-R3", "three nodes", 3),
		{
			name: "plain", title: "as W1, one service of the format plain: a request for each job, 32 at once", scale: 0.1,
			cases: versus(with(func(s *lab.Spec) { s.Services, s.Requests = 1, 32 })),
			bars:  []bar{{text: "worker CPU per request against the floor", of: "pool", against: "floor", metric: workerCPU, limit: 1.5}},
		},
		{
			name: "batch", title: "a full batch of 96 at once, every 200 ms, for an idle replica: time from publish to event", scale: 0.005,
			cases: versus(with(func(s *lab.Spec) { s.Rate, s.Burst = 480, 96 })),
		},
		{
			name: "idle", title: "a replica that has nothing to do",
			cases: []benchCase{{label: "pool", spec: with(func(s *lab.Spec) { s.Idle = 10 * time.Second })}},
			bars:  []bar{{text: "CPU in % of a core", of: "pool", metric: idleCPU, limit: 0.5}},
		},
	}
}

func backlog() workload {
	return workload{
		name: "W1", title: "256 B jobs waiting, batches of 96, three services that answer at once", scale: 1,
		cases: append(versus(base()), benchCase{label: "simple", who: simple, spec: base()}),
		bars: []bar{
			speed("", 0.70),
			{text: "worker CPU per job against the floor", of: "pool", against: "floor", metric: workerCPU, limit: 1.8},
			{text: "broker CPU per job against the floor", of: "pool", against: "floor", metric: brokerCPU, limit: 1.25},
			{text: "peak RSS in MiB", of: "pool", metric: peakMiB, limit: 64},
		},
	}
}

// clusters are the stores that people run: three nodes, every write synced, and both.
func clusters() workload {
	w := workload{name: "R3", title: "as W1, on three nodes, on a synced store, and on both", scale: 0.15}
	for _, c := range []struct {
		suffix string
		nodes  int
		synced bool
		scale  float64
	}{{", three nodes", 3, false, 1}, {", synced", 1, true, 0.4}, {", three nodes synced", 3, true, 0.4}} {
		w.cases = append(w.cases, against(c.suffix, with(func(s *lab.Spec) { s.Nodes, s.Synced = c.nodes, c.synced }), c.scale)...)
	}
	w.bars = []bar{speed(", three nodes", 0.80)}
	return w
}

// batchKiB is the default of ROLLCALL_BATCH_BYTES.
const batchKiB = 1024

// payloads are jobs of the sizes that people send, in batches of at most as many bytes as the
// worker puts into one, which the floor does not count.
func payloads() workload {
	w := workload{name: "size", title: "as W1, jobs of 4, 16 and 64 KiB", scale: 0.06}
	for _, c := range []struct {
		suffix string
		kib    int
		scale  float64
	}{{", 4 KiB", 4, 1}, {", 16 KiB", 16, 0.5}, {", 64 KiB", 64, 0.125}} {
		w.cases = append(w.cases, against(c.suffix, with(func(s *lab.Spec) {
			s.Payload = c.kib << 10
			s.Batch = min(s.Batch, batchKiB/c.kib)
		}), c.scale)...)
	}
	w.bars = []bar{speed(", 16 KiB", 0.85)}
	return w
}

func latency(name, store string, nodes int) workload {
	w := workload{name: name, title: "2,000 jobs/s on " + store + ", time from publish to event, by linger", scale: 0.02}
	for _, c := range []struct {
		suffix         string
		linger         time.Duration
		above, atWorst float64
	}{{", no linger", 0, 2, 4}, {", 5 ms", 5 * time.Millisecond, 1.5, 2}, {", 50 ms", 50 * time.Millisecond, 0, 0}} {
		w.cases = append(w.cases, against(c.suffix, with(func(s *lab.Spec) { s.Rate, s.Linger, s.Nodes = 2000, c.linger, nodes }), 1)...)
		if nodes > 1 || c.above == 0 {
			continue
		}
		w.bars = append(w.bars,
			bar{text: "p50 in ms above the floor's" + c.suffix, of: "pool" + c.suffix, against: "floor" + c.suffix, metric: p50, limit: c.above, difference: true},
			bar{text: "p99 against the floor" + c.suffix, of: "pool" + c.suffix, against: "floor" + c.suffix, metric: p99, limit: c.atWorst})
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
	w := workload{name: "W5", title: "replicas of 8 slots each, services answer after 20 ms ± 5 ms", scale: 0.15}
	for _, count := range []int{1, 2, 4} {
		w.cases = append(w.cases, benchCase{label: fmt.Sprintf("pool ×%d, batches of 8", count), spec: n(count, small, answer), scale: 0.4})
	}
	for _, count := range []int{1, 4} {
		w.cases = append(w.cases, benchCase{label: fmt.Sprintf("pool ×%d, batches of 8, 60 ms", count), spec: n(count, small, slow), scale: 0.1})
	}
	for _, count := range []int{1, 4} {
		w.cases = append(w.cases, against(fmt.Sprintf(" ×%d", count), n(count, 96, answer), 1)...)
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
		name: "W6", title: "as W1, 10 % of the jobs need a second attempt", scale: 0.5,
		cases: []benchCase{
			{label: "pool, W1", spec: base()},
			{label: "pool, 10 % retried", spec: with(func(s *lab.Spec) { s.RetryShare = 0.1 })},
		},
		bars: []bar{{text: "jobs/s against our own W1", of: "pool, 10 % retried", against: "pool, W1", metric: jobsPerSecond, limit: 0.85, atLeast: true}},
	}
}

// sets are the same jobs without sets and in sets, large ones and each in one of its own.
func sets() workload {
	of := func(label string, size int, scale float64) benchCase {
		return benchCase{label: label, scale: scale, spec: with(func(s *lab.Spec) { s.Replicas, s.SetSize = 4, size })}
	}
	return workload{
		name: "sets", title: "as W1 with four replicas: no sets, sets of 20,000 jobs, 2,000 sets of one", scale: 0.3,
		cases: []benchCase{of("no sets", 0, 1), of("sets of 20,000", 20_000, 1), of("2,000 jobs", 0, 1.0/30), of("2,000 sets of one", 1, 1.0/30)},
		bars:  []bar{{text: "jobs/s in sets of 20,000 against none", of: "sets of 20,000", against: "no sets", metric: jobsPerSecond, limit: 0.9, atLeast: true}},
	}
}
