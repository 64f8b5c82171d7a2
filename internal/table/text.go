package table

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Clean makes a text of unknown origin one line that cannot command the terminal, nor change the
// direction of what follows.
func Clean(s string) string { return strings.Map(cleaned, s) }

// CleanLines is [Clean] for a text of several lines.
func CleanLines(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' {
			return r
		}
		return cleaned(r)
	}, s)
}

func cleaned(r rune) rune {
	switch {
	case unicode.IsControl(r), r == '\u2028', r == '\u2029', unicode.Is(unicode.Bidi_Control, r):
		return ' '
	}
	return r
}

// Age writes how long ago something was, in at most two units.
func Age(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(max(d, 0).Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%dm", int(d.Hours()), int(d.Minutes())%60)
	default:
		return fmt.Sprintf("%dd%dh", int(d.Hours())/24, int(d.Hours())%24)
	}
}

// Moment writes a time to the nearest second, and nothing for none.
func Moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Round(time.Second).Format(time.RFC3339)
}

// Positive writes a number, and nothing for 0.
func Positive(n uint64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatUint(n, 10)
}

// maxName is how much of a server's name a table shows: an unnamed server is called by its id
// of 56 characters.
const maxName = 20

// Name shortens a long name in the middle of a table.
func Name(s string) string {
	runes := []rune(s)
	if len(runes) <= maxName {
		return s
	}
	return string(runes[:maxName-1]) + "…"
}
