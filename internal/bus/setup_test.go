package bus_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/bus"
)

func TestEnsureCreatesWhatIsMissingOnce(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	setup := bus.NewSetup(conn, streams(), pool)

	differences, err := setup.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var missing []string
	for _, d := range differences {
		if d.Missing {
			missing = append(missing, d.Object)
		}
	}
	want := []string{"stream LATER", "stream JOBS", "stream DONE", "stream DEAD", "consumer JOBS/test"}
	if !slices.Equal(missing, want) {
		t.Errorf("missing %v, want %v", missing, want)
	}
	created, drift, err := setup.Ensure(t.Context())
	if err != nil || !slices.Equal(created, want) || len(drift) != 0 {
		t.Errorf("Ensure() = %v, %v, %v; want all created and no drift", created, drift, err)
	}
	created, drift, err = setup.Ensure(t.Context())
	if err != nil || len(created) != 0 || len(drift) != 0 {
		t.Errorf("second Ensure() = %v, %v, %v; want nothing to do", created, drift, err)
	}
}

func TestReplicasMayEnsureAtOnce(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, drift, err := bus.NewSetup(conn, streams(), pool).Ensure(t.Context()); err != nil || len(drift) != 0 {
				t.Errorf("Ensure() = %v, %v", drift, err)
			}
		})
	}
	wg.Wait()
}

func TestDriftIsReportedAndLeftAlone(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	js := jetStream(t, conn)
	ctx := t.Context()
	have := []jetstream.StreamConfig{
		{Name: "JOBS", Subjects: []string{"jobs.a"}, Retention: jetstream.WorkQueuePolicy, MaxMsgs: 10, MaxAge: time.Hour, Storage: jetstream.MemoryStorage, AllowRollup: true},
		{Name: "DONE", Subjects: []string{"done.>"}, MaxBytes: 1 << 20},
		{Name: "DEAD", Subjects: []string{"dead.>"}, Retention: jetstream.InterestPolicy},
	}
	for _, config := range have {
		if _, err := js.CreateStream(ctx, config); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := js.CreateConsumer(ctx, "JOBS", jetstream.ConsumerConfig{Durable: pool, MaxDeliver: 5, AckWait: time.Minute, MaxAckPending: 10}); err != nil {
		t.Fatal(err)
	}

	setup := bus.NewSetup(conn, streams(), pool)
	if err := setup.CheckPredecessor(ctx); err != nil {
		t.Errorf("CheckPredecessor() = %v where no ledger can be read, want nil: Ensure says what is wrong", err)
	}
	created, drift, err := setup.Ensure(ctx)
	if err != nil || len(created) != 0 {
		t.Fatalf("Ensure() created %v, %v; want nothing", created, err)
	}
	fatal := make(map[string]bool)
	for _, d := range drift {
		fatal[d.Object+" "+d.Field] = d.Fatal
		if d.Harm == "" || d.Have == d.Want || d.Fix == "" {
			t.Errorf("%+v tells no harm, no difference, or no way to end it", d)
		}
	}
	for field, want := range map[string]bool{
		"stream JOBS subjects": true, "stream JOBS allow_direct": false, "stream JOBS storage": false, "stream JOBS max_age": true,
		"stream JOBS discard": true, "stream JOBS max_msgs": true, "stream JOBS allow_rollup_hdrs": false, "stream JOBS sources": false,
		"stream DONE allow_atomic": true, "stream DONE allow_msg_ttl": true, "stream DONE allow_direct": true,
		"stream DONE max_bytes": true, "stream DONE discard": true, "stream DONE max_msgs_per_subject": false, "stream DONE republish": false,
		"stream DEAD retention": false, "stream DEAD max_age": false, "stream DEAD allow_direct": false, "consumer JOBS/test max_waiting": false,
		"consumer JOBS/test max_deliver": true, "consumer JOBS/test ack_wait": false,
		"consumer JOBS/test max_ack_pending": false, "consumer JOBS/test filter_subjects": true,
		"consumer JOBS/test priority_policy": false,
	} {
		got, reported := fatal[field]
		if !reported || got != want {
			t.Errorf("%s: reported %v, fatal %v; want it reported, fatal %v", field, reported, got, want)
		}
		delete(fatal, field)
	}
	if len(fatal) != 0 {
		t.Errorf("reported without a reason: %v", fatal)
	}
	for _, config := range have {
		stream, err := js.Stream(ctx, config.Name)
		if err != nil || stream.CachedInfo().Config.MaxMsgs != max(config.MaxMsgs, -1) && config.MaxMsgs > 0 {
			t.Errorf("stream %s was changed: %+v, %v", config.Name, stream.CachedInfo().Config, err)
		}
	}
}

func TestDriftOfDelayedJobsIsReported(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	if _, err := jetStream(t, conn).CreateStream(t.Context(), jetstream.StreamConfig{Name: "LATER", Subjects: []string{"later.>", "due.>"}, MaxAge: time.Hour}); err != nil {
		t.Fatal(err)
	}
	_, drift, err := bus.NewSetup(conn, streams(), pool).Ensure(t.Context())
	var fields []string
	for _, d := range drift {
		fields = append(fields, d.Object+" "+d.Field)
	}
	if want := []string{"stream LATER allow_direct", "stream LATER allow_msg_schedules", "stream LATER allow_msg_ttl", "stream LATER allow_rollup_hdrs", "stream LATER max_age"}; err != nil || !slices.Equal(fields, want) {
		t.Errorf("Ensure() reports %v, %v; want %v", fields, err, want)
	}
}

func TestOtherSubjectsGetAStreamOfTheirOwn(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	s := streams()
	s.Stream, s.Subjects = "ORDERS", []string{"orders.>", "returns.*"}
	ensure(t, conn, s)
	stream, err := jetStream(t, conn).Stream(t.Context(), "ORDERS")
	if err != nil {
		t.Fatal(err)
	}
	if got := stream.CachedInfo().Config.Subjects; !slices.Equal(got, s.Subjects) {
		t.Errorf("the stream holds %v, want %v", got, s.Subjects)
	}
	if _, drift, err := bus.NewSetup(conn, s, pool).Ensure(t.Context()); err != nil || len(drift) != 0 {
		t.Errorf("Ensure() = %v, %v; want no drift from what it made", drift, err)
	}
}

func TestOverlappingPoolsAreExplained(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	ensure(t, conn, streams())
	s := streams()
	s.Subjects = []string{"jobs.mail.>"}
	if _, _, err := bus.NewSetup(conn, s, "mail").Ensure(t.Context()); err == nil || !strings.Contains(err.Error(), "another pool") {
		t.Errorf("Ensure() = %v, want it to name the other pool as the cause", err)
	}
	s.Stream = "MAIL"
	if _, _, err := bus.NewSetup(conn, s, "mail").Ensure(t.Context()); err == nil || !strings.Contains(err.Error(), "ROLLCALL_STREAM") {
		t.Errorf("Ensure() = %v, want it to name the setting", err)
	}
}

func TestWithoutJetStreamTheErrorSaysSo(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t, func(o *server.Options) { o.JetStream = false }))
	_, _, err := bus.NewSetup(conn, streams(), pool).Ensure(t.Context())
	if err == nil || !strings.Contains(err.Error(), "enable JetStream") {
		t.Errorf("Ensure() = %v, want it to say that JetStream is off", err)
	}
}

func TestOldServersAreRefused(t *testing.T) {
	t.Parallel()
	for version, refused := range map[string]bool{
		"2.9.0": true, "2.11.14": true, "2.12.0": true, "v2.12.0-RC.1": true, "": true,
		"2.12.1": false, "2.12.1-beta": false, "2.13.0": false, "2.15.2": false, "3.0": false,
	} {
		err := bus.CheckVersion(version)
		if errors.Is(err, bus.ErrServerTooOld) != refused {
			t.Errorf("CheckVersion(%q) = %v, want refused %v", version, err, refused)
		}
		if refused && !strings.Contains(err.Error(), "2.12.1") {
			t.Errorf("%v does not name the oldest version that works", err)
		}
	}
}

func TestSettingsNameEveryFault(t *testing.T) {
	t.Parallel()
	if err := streams().Validate(); err != nil {
		t.Errorf("the defaults are refused: %v", err)
	}
	bad := bus.Streams{Source: "kafka", Subjects: []string{"a..b", "a.>.b"}, Stream: "no.dots", Replicas: 2, AckWait: time.Millisecond, LedgerTTL: time.Second,
		StreamBytes: 1, LaterBytes: -1, DoneBytes: 5, DeadBytes: 1 << 62, DeadAge: -1}
	err := bad.Validate()
	for _, name := range []string{
		"ROLLCALL_SOURCE", "ROLLCALL_SUBJECTS holds \"a..b\"", "ROLLCALL_SUBJECTS holds \"a.>.b\"", "ROLLCALL_STREAM",
		"ROLLCALL_REPLICAS", "ROLLCALL_ACK_WAIT", "ROLLCALL_ZOMBIE_HORIZON", "ROLLCALL_STREAM_BYTES", "ROLLCALL_LATER_BYTES",
		"ROLLCALL_DONE_BYTES", "ROLLCALL_DEAD_BYTES", "ROLLCALL_DONE_AGE", "ROLLCALL_DEAD_AGE",
	} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v does not tell of %s", err, name)
		}
	}
	s := streams()
	s.Subjects = []string{"jobs.a", "jobs.>", "x", "y.*", "x"}
	if err = s.Validate(); err == nil || strings.Count(err.Error(), "keep one") != 2 {
		t.Errorf("%v; want that jobs.> covers jobs.a, and that x stands twice", err)
	}
	s.ZombieHorizon, s.Stream, s.Subjects = 2*s.LedgerTTL, bus.StreamDead, nil
	err = s.Validate()
	for _, name := range []string{"ROLLCALL_LEDGER_TTL", "ROLLCALL_STREAM", "ROLLCALL_SUBJECTS"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v does not tell of %s", err, name)
		}
	}
}

func TestEnsureEndsWithItsContext(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := bus.NewSetup(conn, streams(), pool).Ensure(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Ensure() = %v, want the end of its context", err)
	}
}
