package web

import (
	"bytes"
	"fmt"
	"html/template"
	"strconv"
	"strings"
	"time"
	"unicode"

	"rollcall/internal/jobs"
)

func functions() template.FuncMap {
	return template.FuncMap{
		"number": number[int], "unsigned": number[uint64], "signed": number[int64], "bytes": size,
		"ago": ago, "span": span, "clock": clock, "machine": machine, "share": share, "rate": rate,
		"clip": jobs.Clip,
	}
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

// rate writes a number per second.
func rate(perSecond float64) string {
	if perSecond >= 100 {
		return number(int(perSecond))
	}
	return strconv.FormatFloat(perSecond, 'f', 1, 64)
}

// visible replaces the control characters of foreign texts, and those that turn the direction
// of writing, by a sign that can be seen: a name must not hide what it is.
func visible(page []byte) []byte {
	return bytes.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return r
		case unicode.IsControl(r), unicode.Is(unicode.Bidi_Control, r), r == '\u2028', r == '\u2029':
			return unicode.ReplacementChar
		default:
			return r
		}
	}, page)
}
