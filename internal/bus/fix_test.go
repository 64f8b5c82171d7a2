package bus_test

import (
	"errors"
	"strings"
	"testing"

	"rollcall/internal/bus"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"
)

// TestFixesAreCommandsThatTheCLITakes: each of these was run with the nats CLI 0.5.1 and ends its
// difference. The CLI ignores limits of pulls that are 0, reads bytes without a unit as 32 bits,
// and calls no_ack by its opposite.
func TestFixesAreCommandsThatTheCLITakes(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	wanted := streams()
	wanted.StreamBytes = 5 << 30
	setup := ensure(t, conn, wanted)
	js := jetStream(t, conn)
	alterConsumer(t, js, func(c *jetstream.ConsumerConfig) {
		c.FilterSubject, c.MaxRequestBatch, c.SampleFrequency, c.PriorityGroups = "jobs.a", 5, "50%", []string{"x"}
	})
	for name, alter := range map[string]func(*jetstream.StreamConfig){
		"JOBS": func(c *jetstream.StreamConfig) {
			c.Subjects, c.MaxBytes, c.MaxConsumers = []string{"jobs.a.>"}, 7777, 5
		},
		"DONE": func(c *jetstream.StreamConfig) {
			c.NoAck, c.DiscardNewPerSubject, c.AllowDirect, c.RePublish, c.Compression = true, true, false, nil, jetstream.S2Compression
		},
	} {
		stream, err := js.Stream(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		config := stream.CachedInfo().Config
		alter(&config)
		if _, err := js.UpdateStream(t.Context(), config); err != nil {
			t.Fatal(err)
		}
	}
	drift, err := setup.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, d := range drift {
		got[d.Object+" "+d.Field] = d.Fix
	}
	const byFile = " > changed.json && nats "
	want := map[string]string{
		"consumer JOBS/test filter_subjects":  "set ROLLCALL_SUBJECTS to jobs.a, or, if it is right as it is, nats consumer edit JOBS test --filter='jobs.>'",
		"consumer JOBS/test max_batch":        "nats consumer info JOBS test --json | jq '.config | del(.max_batch)'" + byFile + "consumer edit JOBS test --config=changed.json",
		"consumer JOBS/test priority_groups":  `nats consumer info JOBS test --json | jq '.config | .priority_groups=["replicas"]'` + byFile + "consumer edit JOBS test --config=changed.json",
		"consumer JOBS/test sample_freq":      "nats consumer edit JOBS test --sample=0",
		"stream JOBS subjects":                "nats stream edit JOBS --subjects='jobs.>'",
		"stream JOBS max_bytes":               "nats stream edit JOBS --max-bytes=5GiB",
		"stream JOBS max_consumers":           "nats stream info JOBS --json | jq '.config | del(.max_consumers)'" + byFile + "stream edit JOBS --config=changed.json",
		"stream DONE no_ack":                  "nats stream edit DONE --ack",
		"stream DONE discard_new_per_subject": "nats stream edit DONE --no-discard-per-subject",
		"stream DONE allow_direct":            "nats stream edit DONE --allow-direct",
		"stream DONE compression":             "nats stream edit DONE --compression=none",
		"stream DONE republish": `nats stream info DONE --json | jq '.config | .republish={"dest":"{{wildcard(1)}}.{{wildcard(2)}}.{{wildcard(3)}}.{{wildcard(4)}}","src":"done.*.*.*.*"}'` +
			byFile + "stream edit DONE --config=changed.json",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("fixes (-want +got):\n%s", diff)
	}
}

// TestAPoolOnSubjectsThatItsStreamLacks is refused without leaving a consumer behind, and told to add its subjects to those
// of the others.
func TestAPoolOnSubjectsThatItsStreamLacks(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	ensure(t, conn, streams())
	other := streams()
	other.Subjects = []string{"orders.x"}
	created, drift, err := bus.NewSetup(conn, other, "orders").Ensure(t.Context())
	if err != nil || len(created) > 0 || !errors.Is(bus.Refusal(drift), bus.ErrRefusedSetup) {
		t.Fatalf("created %v, %v, %v; want nothing, and a refusal", created, drift, err)
	}
	if text := bus.Refusal(drift).Error(); !strings.Contains(text, "nats stream edit JOBS --subjects=orders.x --subjects='jobs.>'") {
		t.Errorf("the refusal %q does not add the subject", text)
	}
}
