package nats_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"rollcall/internal/jobs"
)

// TestStreamLimitsLeaveRoomInTheStore adds up what each shipped configuration gives to the
// streams, and compares it with the store of the broker it goes with.
func TestStreamLimitsLeaveRoomInTheStore(t *testing.T) {
	t.Parallel()
	limit := regexp.MustCompile(`(?:ROLLCALL_(STREAM|DONE|DEAD)_BYTES(?:=|: \$\{\w+:-)|^  (stream|done|dead)Bytes: )([0-9.]+[KMGi]*B)`)
	for path, conf := range map[string]string{
		"nats-server.conf": "nats-server.conf", "../../docker-compose.yml": "compose.conf", "../helm/rollcall/values.yaml": "nats-server.conf",
	} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		opts, err := server.ProcessConfigFile(conf)
		if err != nil {
			t.Fatal(err)
		}
		sum, streams := jobs.Size(0), map[string]bool{}
		for line := range strings.Lines(string(text)) {
			for _, m := range limit.FindAllStringSubmatch(line, -1) {
				var size jobs.Size
				if err := size.UnmarshalText([]byte(m[3])); err != nil {
					t.Fatal(err)
				}
				sum += size
				streams[strings.ToLower(m[1]+m[2])] = true
			}
		}
		if len(streams) != 3 || int64(sum) >= opts.JetStreamMaxStore {
			t.Errorf("%s gives %v to %v; want a limit for the job stream, DONE and DEAD, together below the %d bytes of %s", path, sum, streams, opts.JetStreamMaxStore, conf)
		}
	}
}
