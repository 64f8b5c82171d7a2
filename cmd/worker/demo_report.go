package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/schollz/progressbar/v3"

	"rollcall/internal/history"
	"rollcall/internal/table"
)

// maxListed bounds the violations that are printed one by one.
const maxListed = 20

// leftOver is the demo's own rule: settled jobs leave the stream.
const leftOver history.Rule = "left over"

// summary is what the demo prints.
type summary struct {
	Jobs int `json:"jobs"`
	// The outcomes, by job.
	Succeeded int `json:"succeeded"`
	Failed    int `json:"failed"`
	Expired   int `json:"expired"`
	Invalid   int `json:"invalid"`
	// ExpectedFailed is how many of these jobs the flaky service refuses for good.
	ExpectedFailed int `json:"failed_foretold"`
	// Retried counts jobs that needed more than one attempt.
	Retried     int     `json:"retried"`
	Batches     int     `json:"batches"`
	DeadLetters int     `json:"dead_letters"`
	Calls       int     `json:"service_job_calls"`
	Seconds     float64 `json:"seconds"`
	JobsPerSec  float64 `json:"jobs_per_second"`
	// P50 and P99 of the time from publishing a job to the event it ended in, milliseconds.
	P50        float64             `json:"publish_to_event_p50_ms"`
	P99        float64             `json:"publish_to_event_p99_ms"`
	Violations []history.Violation `json:"violations"`
}

// summarise counts and judges what the run left behind.
func (d *trial) summarise(h *history.History) summary {
	s := summary{
		Jobs: len(h.Accepted), Batches: len(h.Events), DeadLetters: len(h.DeadLetters), Calls: len(h.Calls),
		Seconds: d.ended.Sub(d.begun).Seconds(), Violations: h.Violations(),
	}
	for _, job := range h.Accepted {
		if d.around.Flaky.Refuses(job.ID) {
			s.ExpectedFailed++
		}
	}
	if d.left > 0 {
		s.Violations = append(s.Violations, history.Violation{Rule: leftOver, Detail: fmt.Sprintf("%d settled jobs are still in the stream", d.left)})
	}
	var waits []time.Duration
	for i := range h.Events {
		e := &h.Events[i]
		s.Succeeded += e.Data.Counts.Succeeded
		s.Failed += e.Data.Counts.Failed
		s.Expired += e.Data.Counts.Expired
		s.Invalid += e.Data.Counts.Invalid
		for k := range e.Data.Jobs {
			if job := &e.Data.Jobs[k]; job.Final() {
				waits = append(waits, e.Stored.Sub(d.sent[job.UID]))
				s.Retried += min(max(job.Attempt-1, 0), 1)
			}
		}
	}
	s.P50, s.P99 = percentile(waits, 50), percentile(waits, 99)
	if s.Seconds > 0 {
		s.JobsPerSec = float64(len(waits)) / s.Seconds
	}
	if s.Violations == nil {
		s.Violations = []history.Violation{} // an empty list in JSON, not null
	}
	return s
}

// percentile returns the p-th percentile in milliseconds by the nearest rank, 0 for nothing.
// It sorts waits.
func percentile(waits []time.Duration, p int) float64 {
	if len(waits) == 0 {
		return 0
	}
	slices.Sort(waits)
	rank := (len(waits)*p + 99) / 100
	return float64(waits[max(rank, 1)-1].Microseconds()) / 1000
}

// report prints the summary; it is an error if a promise was broken.
func (d *trial) report(h *history.History) error {
	s := d.summarise(h)
	number := func(title string, of func(summary) int) table.Column[summary] {
		return table.Col(title, func(s summary) string { return strconv.Itoa(of(s)) })
	}
	err := table.One(d.c.printer(), s,
		number("jobs", func(s summary) int { return s.Jobs }),
		number("succeeded", func(s summary) int { return s.Succeeded }),
		table.Col("failed", func(s summary) string {
			return fmt.Sprintf("%d (the flaky service refuses %d of these jobs)", s.Failed, s.ExpectedFailed)
		}),
		number("expired", func(s summary) int { return s.Expired }),
		number("invalid", func(s summary) int { return s.Invalid }),
		number("retried", func(s summary) int { return s.Retried }),
		number("batches", func(s summary) int { return s.Batches }),
		number("dead letters", func(s summary) int { return s.DeadLetters }),
		table.Col("jobs/s", func(s summary) string { return fmt.Sprintf("%.0f (in %.1f s)", s.JobsPerSec, s.Seconds) }),
		table.Col("publish to event", func(s summary) string { return fmt.Sprintf("p50 %.0f ms, p99 %.0f ms", s.P50, s.P99) }),
		table.Col("checked", checked),
	)
	if err != nil {
		return err
	}
	d.tellWhereKept()
	if n := len(s.Violations); n > 0 {
		for _, v := range s.Violations[:min(n, maxListed)] {
			fmt.Fprintln(d.c.stderr, v)
		}
		return fmt.Errorf("%w: %d violations", errViolations, n)
	}
	return nil
}

func checked(s summary) string {
	if n := len(s.Violations); n > 0 {
		return fmt.Sprintf("%d violations", n)
	}
	return "every job final in exactly one event, every failed one in the dead letters, nothing left behind"
}

func (d *trial) tellWhereKept() {
	if d.flags.keep == "" {
		return
	}
	fmt.Fprintf(d.c.stderr, "The streams are kept in %[1]s. To look into them: '%[2]s dev --keep %[1]s', then '%[2]s events --all'.\n", d.flags.keep, invocation())
}

// show prints how far the demo is: a bar on a terminal, else a line per second, and nothing to
// a program that asked for JSON.
func (d *trial) show(ctx context.Context) {
	switch {
	case d.c.output != table.Table:
	case isTerminal(d.c.stderr):
		d.showBar(ctx)
	default:
		d.showLines(ctx, time.Second)
	}
}

func (d *trial) showBar(ctx context.Context) {
	bar := progressbar.NewOptions(d.flags.jobs,
		progressbar.OptionSetWriter(d.c.stderr), progressbar.OptionSetDescription("jobs final"),
		progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionSetItsString("jobs"),
		progressbar.OptionSetPredictTime(true), progressbar.OptionFullWidth(), progressbar.OptionClearOnFinish())
	d.eachTick(ctx, watchEvery, func(_, final int64) {
		// A bar that cannot be drawn must not fail the run.
		_ = bar.Set(int(min(final, int64(d.flags.jobs))))
	})
	_ = bar.Clear()
}

func (d *trial) showLines(ctx context.Context, every time.Duration) {
	d.eachTick(ctx, every, func(published, final int64) {
		fmt.Fprintf(d.c.stderr, "published %d, final %d of %d\n", published, final, d.flags.jobs)
	})
}

// eachTick reports the counters until ctx is done.
func (d *trial) eachTick(ctx context.Context, every time.Duration, report func(published, final int64)) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			report(d.tally.published.Load(), d.tally.final.Load())
		case <-ctx.Done():
			return
		}
	}
}
