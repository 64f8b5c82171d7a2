package jobs_test

import (
	"strings"
	"testing"

	"rollcall/internal/jobs"
)

func TestTheSizeOfADeliveryCountsAllThatItHolds(t *testing.T) {
	t.Parallel()
	small := jobs.Delivery{}
	base := small.Size()
	for name, d := range map[string]jobs.Delivery{
		"body":    {Data: make([]byte, 60_000)},
		"headers": {Header: map[string][]string{"X-Large": {strings.Repeat("x", 60_000)}}},
		"names":   {Header: map[string][]string{strings.Repeat("x", 60_000): nil}},
		"subject": {Subject: strings.Repeat("x", 60_000)},
		"reply":   {Reply: strings.Repeat("x", 60_000)},
	} {
		if n := d.Size(); n < base+60_000 || n > base+61_000 {
			t.Errorf("60 kB of %s: %d bytes, and %d without", name, n, base)
		}
	}
}
