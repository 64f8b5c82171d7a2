package web

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"rollcall/internal/jobs"
)

// The chart: one bar for so many seconds, in units of its view box.
const (
	barSeconds  = 5
	barWidth    = 10
	chartHeight = 100
	// leastHeight is that of a failure among thousands of jobs: it must be seen.
	leastHeight = 4
)

// chart is the jobs that ended, over time.
type chart struct {
	Bars []bar
	// Top is the rate at the upper edge, in jobs per second, and Middle the half of it.
	Top, Middle string
	Ticks       []tick
	Width       int
	Peak        string
	Ended       int
	Failed      int
}

// bar is a bar of the chart, stacked from the bottom.
type bar struct {
	X, Y, Height, Width int // of the jobs that succeeded
	FailedY, FailedH    int
	Succeeded, Failed   int
	Begin               time.Time
	// Seconds of it that are known: fewer at both ends of the chart.
	Seconds int
}

// perSecond is the rate of so many of the bar's jobs.
func (b *bar) perSecond(jobs int) float64 { return float64(jobs) / float64(max(b.Seconds, 1)) }

// tick is a full minute on the axis of time.
type tick struct {
	// Percent of the width.
	Percent string
	Label   string
}

// newChart draws seconds, the last of which ended at end. Bars begin at multiples of their
// width, so that they do not change while time passes.
func newChart(seconds []jobs.Tally, end time.Time) chart {
	last := end.Unix()
	until := (last + barSeconds - 1) / barSeconds * barSeconds
	n := (len(seconds) + barSeconds - 1) / barSeconds
	from := until - int64(n*barSeconds)
	c := chart{Bars: make([]bar, n), Width: n * barWidth}
	for i := range c.Bars {
		begin := from + int64(i*barSeconds)
		c.Bars[i] = bar{X: i * barWidth, Width: barWidth - 2, Begin: time.Unix(begin, 0)}
	}
	for i, t := range seconds {
		at := last - int64(len(seconds)) + int64(i)
		if at < from {
			continue
		}
		b := &c.Bars[(at-from)/barSeconds]
		b.Seconds++
		b.Succeeded += t.Succeeded
		b.Failed += t.Dead
	}
	c.scale()
	for minute := (from + 59) / 60 * 60; minute <= until; minute += 60 {
		percent := float64(minute-from) / float64(max(until-from, 1)) * 100
		c.Ticks = append(c.Ticks, tick{Percent: strconv.FormatFloat(percent, 'f', 2, 64) + "%", Label: time.Unix(minute, 0).UTC().Format("15:04")})
	}
	return c
}

// scale gives the bars their heights.
func (c *chart) scale() {
	most := 0.0
	for i := range c.Bars {
		b := &c.Bars[i]
		most = max(most, b.perSecond(b.Succeeded+b.Failed))
		c.Ended += b.Succeeded + b.Failed
		c.Failed += b.Failed
	}
	c.Peak = rate(most)
	top := roundUp(most)
	c.Top, c.Middle = axis(top), axis(top/2)
	for i := range c.Bars {
		b := &c.Bars[i]
		height := func(jobs int) int { return int(math.Round(b.perSecond(jobs) / top * chartHeight)) }
		b.Height, b.FailedH = height(b.Succeeded), height(b.Failed)
		if b.Failed > 0 {
			b.FailedH = max(b.FailedH, leastHeight)
		}
		b.Height = min(b.Height, chartHeight-b.FailedH)
		b.Y = chartHeight - b.Height
		b.FailedY = b.Y - b.FailedH
	}
}

// roundUp returns the least of 1, 2, 4 or 10 times a power of ten that is at least v, and at
// least 1: a round number whose half is round too.
func roundUp(v float64) float64 {
	if v <= 1 {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, step := range []float64{1, 2, 4, 10} {
		if v <= step*power {
			return step * power
		}
	}
	return 10 * power
}

// axis writes a number of the axis.
func axis(v float64) string {
	if v == math.Trunc(v) {
		return number(int(v))
	}
	return fmt.Sprintf("%.1f", v)
}
