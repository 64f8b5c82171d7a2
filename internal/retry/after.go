package retry

import (
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// After reads a Retry-After header (RFC 9110, section 10.2.3): whole seconds or an HTTP
// date. A value that is negative, past or unreadable counts as absent (0); an absurd one is
// cut to limit.
func After(value string, now time.Time, limit time.Duration) time.Duration {
	value = strings.TrimSpace(value)
	if value == "" {
		return 0
	}
	if digits(value) {
		seconds, err := strconv.ParseUint(value, 10, 63)
		if err != nil || seconds > uint64(math.MaxInt64/time.Second) {
			return limit
		}
		return min(time.Duration(seconds)*time.Second, limit)
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), limit)
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}
