package nats_test

import (
	"context"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"rollcall/internal/app"
	"rollcall/internal/faulttest"
	"rollcall/internal/operate"
)

// withOwnDone turns the comment about ROLLCALL_DONE=own into rights for the pool mail.
func withOwnDone(t *testing.T) []string {
	t.Helper()
	shipped, err := os.ReadFile("nats-server.conf")
	if err != nil {
		t.Fatal(err)
	}
	var pairs []string
	for line := range strings.Lines(string(shipped)) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "# "); ok && strings.Contains(rest, "DONE_mail") {
			pairs = append(pairs, line, rest+"\n")
		}
	}
	if len(pairs) != 6 {
		t.Fatalf("the comment has %d rights on DONE_mail, want 3", len(pairs)/2)
	}
	return pairs
}

// ownDone are the settings of the pool mail, for a user.
func ownDone(t *testing.T, s *server.Server, user string, more ...string) app.Config {
	t.Helper()
	cfg, err := app.Load(slices.Concat([]string{
		"NATS_URL=" + s.ClientURL(), "NATS_USER=" + user, "NATS_PASSWORD=" + user + "-secret",
		"ROLLCALL_POOL=mail", "ROLLCALL_SUBJECTS=jobs.mail.>", "ROLLCALL_DONE=own", "ROLLCALL_HTTP_ADDR=127.0.0.1:0",
	}, more))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// lacking returns the rights that the doctor misses for the worker's user.
func lacking(t *testing.T, s *server.Server) (subjects []string) {
	t.Helper()
	findings, err := app.Doctor(t.Context(), ownDone(t, s, "worker", "ROLLCALL_ENSURE=false"), zerolog.Nop(), app.Options{Patience: soon}, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range findings {
		if f.Check == "permissions" && f.Health != operate.Well {
			subjects = append(subjects, f.Detail)
		}
	}
	return subjects
}

// TestAWorkerWithAStreamOfItsOwn: with the rights in the comment a pool with ROLLCALL_DONE=own does
// all its work and the doctor misses nothing; without them it names each.
func TestAWorkerWithAStreamOfItsOwn(t *testing.T) {
	t.Parallel()
	s := changed(t, withOwnDone(t)...)
	if plan, err := app.Setup(t.Context(), ownDone(t, s, "ops"), zerolog.Nop(), app.Options{Patience: soon}, false); err != nil || len(plan.Created) != 5 {
		t.Fatalf("ops made %v, %v", plan.Created, err)
	}
	service := faulttest.StartRecorder(t, "billing")
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	cfg := ownDone(t, s, "worker", "ROLLCALL_ENSURE=false", "ROLLCALL_SERVICES=billing="+service.URL())
	var running sync.WaitGroup
	running.Go(func() {
		ended <- app.Run(ctx, cfg, zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel), app.Options{Replica: "r1"})
	})
	defer running.Wait()
	defer stop()
	publishJobTo(t, s, "jobs.mail.x")
	js, err := jetstream.New(login(t, s, "ops"))
	if err != nil {
		t.Fatal(err)
	}
	faulttest.Until(t, soon, "the job is final", func() bool {
		done, err := js.Stream(t.Context(), "DONE_mail")
		if err != nil {
			return false
		}
		_, err = done.GetMsg(t.Context(), 1, jetstream.WithGetMsgSubject("done.batches.mail.succeeded.*"))
		return err == nil
	})
	faulttest.WaitRest(t, js, "JOBS", "mail", soon)
	stop()
	if err := <-ended; err != nil {
		t.Errorf("the worker ended with %v", err)
	}
	if missing := lacking(t, s); len(missing) > 0 {
		t.Errorf("the doctor misses %q", missing)
	}
}

func TestTheDoctorNamesTheRightsOnAStreamOfItsOwn(t *testing.T) {
	t.Parallel()
	s := start(t, "nats-server.conf")
	missing := strings.Join(lacking(t, s), "\n")
	for _, right := range []string{"STREAM.INFO.DONE_mail", "DIRECT.GET.DONE_mail", "STREAM.PURGE.DONE_mail"} {
		if !strings.Contains(missing, `"$JS.API.`+right+`"`) {
			t.Errorf("the doctor does not name %s: %s", right, missing)
		}
	}
}
