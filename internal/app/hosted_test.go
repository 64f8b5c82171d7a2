package app_test

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/rs/zerolog"

	"rollcall/internal/app"
	"rollcall/internal/jobs"
	"rollcall/internal/operate"
)

// hosted runs a server as a provider does: no monitoring port, an account that wants max bytes of
// every stream, and a second user who may not make streams. The limits are for a tier, "R1" for
// streams of one replica, empty for all.
func hosted(t *testing.T, tier string) []string {
	t.Helper()
	s := monitored(t, func(o *server.Options) {
		o.HTTPPort = 0
		o.Users = []*server.User{
			{Username: "owner", Password: "secret"},
			{Username: "worker", Password: "secret", Permissions: &server.Permissions{
				Publish: &server.SubjectPermission{Deny: []string{"$JS.API.STREAM.CREATE.>", "$JS.API.STREAM.UPDATE.>"}},
			}},
		}
	})
	if err := s.GlobalAccount().UpdateJetStreamLimits(map[string]server.JetStreamAccountLimits{
		tier: {MaxMemory: -1, MaxStore: 64 << 20, MaxStreams: -1, MaxConsumers: -1, MaxBytesRequired: true, MaxAckPending: -1, MemoryMaxStreamBytes: -1, StoreMaxStreamBytes: 24 << 20},
	}); err != nil {
		t.Fatal(err)
	}
	return []string{"NATS_URL=" + s.ClientURL(), "NATS_PASSWORD=secret", "ROLLCALL_SERVICES=" + listening(t)}
}

// TestDoctorKnowsAHostedAccount: before anything stands it says what the account refuses, and who has
// to make the streams; afterwards only what writes cannot be asked about is unknown.
func TestDoctorKnowsAHostedAccount(t *testing.T) {
	t.Parallel()
	env := hosted(t, "")
	owner, worker := append(env[:len(env):len(env)], "NATS_USER=owner"), append(env[:len(env):len(env)], "NATS_USER=worker")
	look := func(env ...string) map[string]operate.Finding {
		t.Helper()
		found, err := examine(t, "", env...)
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	found := look(append(owner, "ROLLCALL_DEAD_BYTES=32MiB")...)
	expect(t, found, "stream JOBS", operate.Risky, "the account refuses a stream without a limit: set ROLLCALL_STREAM_BYTES")
	expect(t, found, "stream LATER", operate.Risky, "ROLLCALL_LATER_BYTES")
	expect(t, found, "stream DONE", operate.Risky, "ROLLCALL_DONE_BYTES")
	expect(t, found, "stream DEAD", operate.Risky, "at most 25165824 bytes: lower ROLLCALL_DEAD_BYTES")
	expect(t, look(worker...), "stream JOBS", operate.Broken, "as a user who may create it")

	limits := []string{"ROLLCALL_STREAM_BYTES=16MiB", "ROLLCALL_LATER_BYTES=4MiB", "ROLLCALL_DONE_BYTES=16MiB", "ROLLCALL_DEAD_BYTES=8MiB"}
	setUp(t, append(owner, limits...)...)
	found = look(append(worker, limits...)...)
	for _, check := range []string{"permissions", "streams", "backlog"} {
		expect(t, found, check, operate.Well, "")
	}
	expect(t, found, "sync", operate.Unsure, "--monitor")
}

// TestTheArchiveFitsAnAccountThatWantsLimits: its size is no setting, so the flag is named.
func TestTheArchiveFitsAnAccountThatWantsLimits(t *testing.T) {
	t.Parallel()
	env := append(hosted(t, "R1"), "NATS_USER=owner", "ROLLCALL_STREAM_BYTES=16MiB", "ROLLCALL_LATER_BYTES=4MiB", "ROLLCALL_DONE_BYTES=16MiB", "ROLLCALL_DEAD_BYTES=8MiB")
	setUp(t, env...)
	cfg, err := app.Load(env)
	if err != nil {
		t.Fatal(err)
	}
	archive := func(limit jobs.Size) ([]string, error) {
		plan, err := app.Archive(t.Context(), cfg, zerolog.Nop(), app.Options{}, 30*24*time.Hour, limit, false)
		return plan.Created, err
	}
	if _, err := archive(0); err == nil || !strings.Contains(err.Error(), "--archive-bytes") || strings.Contains(err.Error(), "ROLLCALL_STREAM_BYTES") {
		t.Errorf("without a limit: %v, want the flag", err)
	}
	if created, err := archive(8 * jobs.MiB); err != nil || len(created) != 1 {
		t.Errorf("with a limit: %v, %v", created, err)
	}
}
