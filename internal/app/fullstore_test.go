package app_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/faulttest"
)

// A flood of jobs fills JOBS and nothing else: producers are refused, and what is accepted is
// committed and done, in a store of 80 MB.
func TestCommitsGoOnWhileTheJobStreamIsFull(t *testing.T) {
	t.Parallel()
	r := newRigOn(t, server.Options{JetStreamMaxStore: 80 << 20}, []string{"billing"},
		"ROLLCALL_STREAM_BYTES=8MiB", "ROLLCALL_DONE_BYTES=40MiB", "ROLLCALL_DEAD_BYTES=8MiB")
	const full = 10077
	accepted := 0
	for body := bytes.Repeat([]byte("x"), 64<<10); ; accepted++ {
		_, err := r.js.PublishMsg(t.Context(), &nats.Msg{Subject: "jobs.test", Data: body, Header: nats.Header{"Nats-Msg-Id": {fmt.Sprint(accepted)}}})
		var refused *jetstream.APIError
		if errors.As(err, &refused) && refused.ErrorCode == full {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if accepted < 100 {
		t.Fatalf("only %d jobs fit into 8 MiB", accepted)
	}
	r.start()
	faulttest.WaitRest(t, r.js, "JOBS", "default", limit)
	events, err := faulttest.Events(t.Context(), r.js)
	if err != nil {
		t.Fatal(err)
	}
	done := 0
	for _, e := range events {
		done += e.Data.Counts.Succeeded
	}
	if done != accepted {
		t.Errorf("%d of %d accepted jobs succeeded", done, accepted)
	}
	if _, err := r.js.Publish(t.Context(), "jobs.test", nil); err != nil {
		t.Errorf("a job after the flood: %v", err)
	}
}
