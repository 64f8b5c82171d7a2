package main

import (
	"slices"

	"rollcall/bench/lab"
)

// metric is one figure of a result.
type metric func(lab.Result) float64

func jobsPerSecond(r lab.Result) float64 { return r.JobsPerSecond }
func workerCPU(r lab.Result) float64     { return r.WorkerCPU }
func brokerCPU(r lab.Result) float64     { return r.BrokerCPU }
func totalCPU(r lab.Result) float64      { return r.WorkerCPU + r.BrokerCPU + r.ServicesCPU }
func peakMiB(r lab.Result) float64       { return float64(r.PeakRSS) / (1 << 20) }
func p50(r lab.Result) float64           { return r.P50 }
func p99(r lab.Result) float64           { return r.P99 }
func idleCPU(r lab.Result) float64       { return r.IdleCPU }

// bar is something that a contender has to reach.
type bar struct {
	text string
	// of and against are labels of cases; without against the figure itself counts.
	of, against string
	metric      metric
	// difference compares by subtraction, not by division.
	difference bool
	limit      float64
	// atLeast means that the limit is the lowest good value, else it is the highest.
	atLeast bool
}

// barResult is what became of a bar.
type barResult struct {
	Text    string  `json:"text"`
	Value   float64 `json:"value"`
	Limit   float64 `json:"limit"`
	AtLeast bool    `json:"at_least"`
	Met     bool    `json:"met"`
}

// judge compares run by run, because runs that follow each other shared the machine's mood,
// and takes the median of the comparisons.
func (b bar) judge(cases []caseReport) barResult {
	of := find(cases, b.of)
	values := figures(of, b.metric)
	if b.against != "" {
		base := figures(find(cases, b.against), b.metric)
		for i := range values {
			if b.difference {
				values[i] -= base[i]
			} else {
				values[i] /= base[i]
			}
		}
	}
	v := barResult{Text: b.text, Value: median(values), Limit: b.limit, AtLeast: b.atLeast}
	if b.atLeast {
		v.Met = v.Value >= v.Limit
	} else {
		v.Met = v.Value <= v.Limit
	}
	return v
}

func find(cases []caseReport, label string) caseReport {
	return cases[slices.IndexFunc(cases, func(c caseReport) bool { return c.Label == label })]
}

func figures(c caseReport, m metric) []float64 {
	values := make([]float64, len(c.Runs))
	for i, r := range c.Runs {
		values[i] = m(r)
	}
	return values
}

// median returns the middle value, the lower one of two, and 0 for none.
func median[T int | int64 | float64](values []T) T {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[(len(sorted)-1)/2]
}

// medians returns the median of each figure on its own.
func medians(runs []lab.Result) lab.Result {
	var m lab.Result
	if len(runs) > 0 {
		m.Jobs = runs[0].Jobs
	}
	for _, field := range []func(*lab.Result) *float64{
		func(r *lab.Result) *float64 { return &r.Seconds },
		func(r *lab.Result) *float64 { return &r.JobsPerSecond },
		func(r *lab.Result) *float64 { return &r.WorkerCPU },
		func(r *lab.Result) *float64 { return &r.BrokerCPU },
		func(r *lab.Result) *float64 { return &r.ServicesCPU },
		func(r *lab.Result) *float64 { return &r.P50 },
		func(r *lab.Result) *float64 { return &r.P99 },
		func(r *lab.Result) *float64 { return &r.IdleCPU },
	} {
		*field(&m) = medianOf(runs, field)
	}
	m.PeakRSS = medianOf(runs, func(r *lab.Result) *int64 { return &r.PeakRSS })
	m.BrokerRSS = medianOf(runs, func(r *lab.Result) *int64 { return &r.BrokerRSS })
	m.Batches = medianOf(runs, func(r *lab.Result) *int { return &r.Batches })
	m.Commits = medianOf(runs, func(r *lab.Result) *int { return &r.Commits })
	return m
}

func medianOf[T int | int64 | float64](runs []lab.Result, field func(*lab.Result) *T) T {
	values := make([]T, len(runs))
	for i := range runs {
		values[i] = *field(&runs[i])
	}
	return median(values)
}
