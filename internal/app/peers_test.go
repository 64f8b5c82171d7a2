package app_test

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"rollcall/internal/app"
	"rollcall/internal/jobs"
)

// TestAMixIsLoggedWhileItLasts: at once, every ten minutes, and when it is over; the next one at once
// again.
func TestAMixIsLoggedWhileItLasts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(*testing.T) {
		var log bytes.Buffer
		p := app.NewPeers(zerolog.New(&log))
		logged := func(message string) int { return bytes.Count(log.Bytes(), []byte(message)) }
		mix := []jobs.Difference{{Setting: "ROLLCALL_MAX_ATTEMPTS"}}
		for range 25 * 3 { // minutes, of looks every 20 s
			p.Report(mix)
			time.Sleep(20 * time.Second)
		}
		if n := logged("have different settings"); n != 3 {
			t.Errorf("in 25 minutes it was logged %d times, want 3", n)
		}
		p.Report(nil)
		p.Report(nil)
		if n := logged("have the same settings again"); n != 1 {
			t.Errorf("the end was logged %d times, want once", n)
		}
		p.Report(mix)
		if n := logged("have different settings"); n != 4 {
			t.Errorf("the next mix was not logged at once")
		}
	})
}
