package operate_test

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
	"rollcall/internal/operate"
)

// A thousand events an hour of 1,000 bytes, kept for a day, are 24 MB.
func TestTheDoctorForecastsWhenTheRoomForEventsIsUsedUp(t *testing.T) {
	t.Parallel()
	sample := bus.Sample{Messages: 500, Size: 1000}
	for name, c := range map[string]struct {
		used, streamLimit, storeUsed, storeLimit uint64
		health                                   operate.Health
		says                                     string
	}{
		"no limit":                {health: operate.Well, says: "nothing limits them"},
		"room in the stream":      {used: 10e6, streamLimit: 25e6, health: operate.Well, says: "stream DONE has room"},
		"full already in a day":   {used: 24e6, streamLimit: 24.1e6, health: operate.Well, says: "has room"},
		"the stream is too small": {used: 10e6, streamLimit: 22e6, health: operate.Risky, says: "stream DONE is full in about 12h0m0s"},
		"the account is smaller":  {used: 1e6, streamLimit: 90e6, storeUsed: 1e6, storeLimit: 7e6, health: operate.Risky, says: "the account's storage is full in about 6h0m0s"},
		"the account has room":    {used: 1e6, storeUsed: 1e6, storeLimit: 70e6, health: operate.Well, says: "the account's storage has room"},
		"no room left":            {used: 9e6, streamLimit: 8e6, health: operate.Risky, says: "is full in about 0s"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			info := &jetstream.StreamInfo{Config: jetstream.StreamConfig{Name: "DONE", MaxBytes: int64(c.streamLimit)}, State: jetstream.StreamState{Bytes: c.used}}
			f := operate.Forecast(sample, 30*time.Minute, 24*time.Hour, info, &jobs.PoolState{StoreUsed: c.storeUsed, StoreLimit: c.storeLimit})
			if f.Health != c.health || !strings.Contains(f.Detail, c.says) || (f.Remedy == "") != (c.health == operate.Well) {
				t.Errorf("got %+v, want %s: %s", f, c.health, c.says)
			}
			if want := "1000 events an hour of 1000 bytes, kept for 24h0m0s (ROLLCALL_DONE_AGE), come to 22.9 MiB of storage and 6.4 MiB"; !strings.Contains(f.Detail, want) {
				t.Errorf("got %q, want %q in it", f.Detail, want)
			}
		})
	}
}
