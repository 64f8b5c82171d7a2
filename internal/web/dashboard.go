package web

import (
	"bytes"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"strings"
	"time"

	"rollcall/internal/jobs"
)

// dashboard is the page at /.
type dashboard struct {
	viewer Viewer
	page   *template.Template
}

func newDashboard(v Viewer) dashboard {
	page := template.Must(template.New("dashboard.html").Funcs(functions()).ParseFS(assets, "assets/dashboard.html"))
	return dashboard{viewer: v, page: page}
}

// ServeHTTP renders the page before it sends anything, so that a fault is no half page.
func (d dashboard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var body bytes.Buffer
	if err := d.page.Execute(&body, newView(d.viewer.Status(r.Context()))); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	answer(w, http.StatusOK, "text/html; charset=utf-8", body.Bytes())
}

func functions() template.FuncMap {
	return template.FuncMap{
		"number": number[int], "unsigned": number[uint64], "signed": number[int64], "bytes": size,
		"ago": ago, "span": span, "clock": clock, "machine": machine, "share": share, "rate": rate,
		"tone": tone, "breaker": breakerTone, "clip": jobs.Clip,
	}
}

// view is a status with what has to be worked out for the page.
type view struct {
	Status
	Bars  []bar
	Peak  int
	Error int
	Ended int
	// Title of the page tells the state at a glance, also from another tab.
	Title string
}

// The chart: one bar for so many seconds, in units of its view box.
const (
	barSeconds  = 5
	barWidth    = 10
	chartHeight = 100
)

// bar is a bar of the chart, stacked from the bottom.
type bar struct {
	X, Y, Height       int // of the jobs that succeeded
	FailedY, FailedH   int
	Succeeded, Failed  int
	SecondsAgo, Length int
}

func newView(s Status) view {
	v := view{Status: s}
	v.Bars = bars(s.Seconds)
	for _, b := range v.Bars {
		v.Peak = max(v.Peak, b.Succeeded+b.Failed)
		v.Ended += b.Succeeded + b.Failed
		v.Error += b.Failed
	}
	for i := range v.Bars {
		b := &v.Bars[i]
		b.Height = b.Succeeded * chartHeight / max(v.Peak, 1)
		b.FailedH = b.Failed * chartHeight / max(v.Peak, 1)
		if b.Failed > 0 {
			b.FailedH = max(b.FailedH, 2) // one failure among thousands must be seen
		}
		b.Y = chartHeight - b.Height
		b.FailedY = max(b.Y-b.FailedH, 0)
	}
	v.Title = s.Replica.Phase
	if s.Pool != nil {
		v.Title = fmt.Sprintf("%s waiting", number(s.Pool.Waiting))
	}
	return v
}

func bars(seconds []jobs.Tally) []bar {
	n := len(seconds) / barSeconds
	all := make([]bar, n)
	for i := range all {
		b := &all[i]
		b.X, b.Length, b.SecondsAgo = i*barWidth, barWidth-2, (n-i)*barSeconds
		for _, t := range seconds[len(seconds)-(n-i)*barSeconds:][:barSeconds] {
			b.Succeeded += t.Succeeded
			b.Failed += t.Failed
		}
	}
	return all
}

// number writes a number with a thin space between thousands.
func number[T int | int64 | uint64](n T) string {
	digits := fmt.Sprint(n)
	sign := ""
	if rest, negative := strings.CutPrefix(digits, "-"); negative {
		sign, digits = "−", rest
	}
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteString("\u202f")
		}
		b.WriteRune(d)
	}
	return sign + b.String()
}

// size writes bytes for people.
func size(n uint64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	v, i := float64(n), 0
	for v >= 1024 && i < len(units)-1 {
		v, i = v/1024, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", v, units[i])
}

// span writes a duration in at most two units.
func span(d time.Duration) string {
	switch {
	case d <= 0:
		return "0 s"
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	default:
		return fmt.Sprintf("%d d %d h", int(d.Hours())/24, int(d.Hours())%24)
	}
}

// ago is how long before at something was.
func ago(at, then time.Time) string { return span(at.Sub(then).Round(100*time.Millisecond)) + " ago" }

func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

func machine(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// share writes a part of 1 as per cent; a negative one is for nothing to divide. It never
// rounds a failure away.
func share(part float64) string {
	if part < 0 {
		return "–"
	}
	tenths := int(part * 1000)
	if tenths%10 == 0 {
		return fmt.Sprintf("%d %%", tenths/10)
	}
	return fmt.Sprintf("%d.%d %%", tenths/10, tenths%10)
}

func rate(perSecond float64) string {
	if perSecond >= 100 {
		return number(int(perSecond))
	}
	return strconv.FormatFloat(perSecond, 'f', 1, 64)
}

// tone is the class of the colour that goes with an outcome's word.
func tone(b jobs.BatchSummary) string {
	switch {
	case !b.Committed, b.Outcome == jobs.BatchFailed:
		return "bad"
	case b.Outcome == jobs.BatchPartial:
		return "fair"
	default:
		return "good"
	}
}

func breakerTone(state jobs.Breaker) string {
	switch state {
	case jobs.BreakerClosed:
		return "good"
	case jobs.BreakerOpen:
		return "bad"
	default:
		return "fair"
	}
}
