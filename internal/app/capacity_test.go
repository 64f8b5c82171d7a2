package app_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"rollcall/internal/app"
	"rollcall/internal/jobs"
)

// TestTheDocumentedCapacityIsTheOneThatCounts: docs/limits.md gives formulas, and what they make of the
// defaults.
func TestTheDocumentedCapacityIsTheOneThatCounts(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/limits.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ size, inFlight int }{{96, 8}, {1, 1}, {900, 64}} {
		cfg, err := app.Load([]string{fmt.Sprint("ROLLCALL_BATCH_SIZE=", c.size), fmt.Sprint("ROLLCALL_BATCHES_IN_FLIGHT=", c.inFlight)})
		if err != nil {
			t.Fatal(err)
		}
		jobsHeld := 4*c.size*c.inFlight + max(min(8*c.size*c.inFlight, 8192), 1000)
		bytesHeld := int64(7 * (1<<20 + 2<<10*c.size) * c.inFlight)
		if got := cfg.Engine.Capacity(); got != (jobs.Room{Jobs: jobsHeld, Bytes: bytesHeld}) {
			t.Errorf("%+v: a replica holds %+v, want %d jobs and %d bytes", c, got, jobsHeld, bytesHeld)
		}
		if c.size != 96 {
			continue
		}
		said := fmt.Sprintf("By default that is %d,%03d jobs\nand %.1f MiB,", jobsHeld/1000, jobsHeld%1000, float64(bytesHeld)/(1<<20))
		for _, want := range []string{said, "`4 × size × in flight + max(min(8 × size × in flight, 8192), 1000)`", "`7 × (bytes + 2 KiB × size) × in flight`"} {
			if !strings.Contains(string(page), want) {
				t.Errorf("docs/limits.md does not say %q", want)
			}
		}
	}
}
