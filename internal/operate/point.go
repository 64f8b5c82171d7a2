package operate

import (
	"fmt"
	"time"
)

// Point is a point in time as a person gives it: a time, or a distance from now. The zero Point
// is none.
type Point struct {
	at       time.Time
	distance time.Duration
}

// Later reads a time, or how long from now. flag is what the error names.
func Later(flag, text string) (Point, error) { return parsePoint(flag, text, "how long from now", 1) }

// Earlier reads a time, or how long ago.
func Earlier(flag, text string) (Point, error) { return parsePoint(flag, text, "how long ago", -1) }

func parsePoint(flag, text, relative string, direction time.Duration) (Point, error) {
	if text == "" {
		return Point{}, nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return Point{at: at}, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return Point{}, fmt.Errorf("--%s %q: want a time such as 2026-01-31T12:00:00Z, or %s, such as 10m", flag, text, relative)
	}
	return Point{distance: direction * d}, nil
}

// IsZero reports whether there is no point.
func (p Point) IsZero() bool { return p == Point{} }

// From is the time that the point stands for when it is now; zero for the zero Point.
func (p Point) From(now time.Time) time.Time {
	if p.distance != 0 {
		return now.Add(p.distance)
	}
	return p.at
}
