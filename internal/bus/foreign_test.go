package bus_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
)

// standing makes a stream that somebody else uses, with messages on orders.new.
func standing(t *testing.T, conn *bus.Conn, config jetstream.StreamConfig, messages int) bus.Streams {
	t.Helper()
	config.Name = "ORDERS"
	if config.Mirror == nil {
		config.Subjects = []string{"orders.>"}
	}
	if _, err := jetStream(t, conn).CreateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	if config.Mirror == nil {
		publish(t, conn, "orders.new", numbered(messages)...)
	}
	s := streams()
	s.Stream, s.Subjects = "ORDERS", []string{"orders.>"}
	return s
}

func TestAStreamOfOthersGetsAConsumerAndNothingElse(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]jetstream.StreamConfig{
		"limits":   {MaxAge: time.Hour, Compression: jetstream.S2Compression, AllowRollup: true, MaxMsgSize: 1000},
		"interest": {Retention: jetstream.InterestPolicy},
		"memory":   {Storage: jetstream.MemoryStorage},
		"queue":    {Retention: jetstream.WorkQueuePolicy, MaxAge: time.Hour},
		"sources":  {Sources: []*jetstream.StreamSource{{Name: "ELSEWHERE"}}},
		"mirror":   {Mirror: &jetstream.StreamSource{Name: "ELSEWHERE"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := connect(t, startServer(t))
			if _, err := jetStream(t, conn).CreateStream(t.Context(), jetstream.StreamConfig{Name: "ELSEWHERE", Subjects: []string{"elsewhere.>"}}); err != nil {
				t.Fatal(err)
			}
			s := standing(t, conn, config, 0)
			created, drift, err := bus.NewSetup(conn, s, pool).Ensure(t.Context())
			if err != nil || len(created) != 3 || created[2] != "consumer ORDERS/test" {
				t.Fatalf("Ensure() made %v, %v; want DONE, DEAD and the consumer", created, err)
			}
			for _, d := range drift {
				if !d.Harmless {
					t.Errorf("%+v is held against the stream", d)
				}
			}
		})
	}
}

func TestWhatLosesJobsInAStreamOfOthersIsReported(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	s := standing(t, conn, jetstream.StreamConfig{MaxMsgs: 10, MaxMsgsPerSubject: 5, NoAck: true}, 0)
	s.Subjects = append(s.Subjects, "other.>")
	_, drift, err := bus.NewSetup(conn, s, pool).Ensure(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	fatal := map[string]bool{}
	for _, d := range drift {
		fatal[d.Field] = d.Fatal
	}
	if len(fatal) != 4 || fatal["discard"] || fatal["max_msgs_per_subject"] || fatal["no_ack"] || !fatal["subjects"] {
		t.Errorf("reported %v; want discard, max_msgs_per_subject, no_ack, and as fatal subjects", fatal)
	}
}

// TestAFirstStartOnHistoryWantsToBeToldWhereToBegin: what a stream of others holds may be old, and
// not meant for this pool.
func TestAFirstStartOnHistoryWantsToBeToldWhereToBegin(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	s := standing(t, conn, jetstream.StreamConfig{}, 7)
	setup := bus.NewSetup(conn, s, pool)
	differences, err := setup.Check(t.Context())
	if err != nil || !strings.Contains(differences[len(differences)-1].Harm, "7 messages that the stream holds would be taken") {
		t.Errorf("Check() = %+v, %v; want it to say how many jobs would be taken", differences, err)
	}
	if _, _, err := setup.Ensure(t.Context()); !errors.Is(err, bus.ErrRefusedSetup) || !strings.Contains(err.Error(), "7 messages") || !strings.Contains(err.Error(), "ROLLCALL_START") {
		t.Errorf("Ensure() = %v, want a refusal that says what to set", err)
	}
	if _, err := jetStream(t, conn).Consumer(t.Context(), "ORDERS", pool); !errors.Is(err, jetstream.ErrConsumerNotFound) {
		t.Errorf("the consumer: %v, want none", err)
	}
	empty := connect(t, startServer(t))
	if _, _, err := bus.NewSetup(empty, standing(t, empty, jetstream.StreamConfig{}, 0), pool).Ensure(t.Context()); err != nil {
		t.Errorf("on a stream that holds nothing: Ensure() = %v", err)
	}
	for start, want := range map[string]uint64{bus.StartNew: 0, bus.StartAll: 7} {
		s.Start = start
		if _, _, err := bus.NewSetup(conn, s, "pool-"+start).Ensure(t.Context()); err != nil {
			t.Fatal(err)
		}
		consumer, err := jetStream(t, conn).Consumer(t.Context(), "ORDERS", "pool-"+start)
		if err != nil || consumer.CachedInfo().NumPending != want {
			t.Errorf("ROLLCALL_START=%s: %d messages wait, %v; want %d", start, consumer.CachedInfo().NumPending, err, want)
		}
	}
}

func TestAConsumerThatWouldRepeatWorkSaysSo(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	s := standing(t, conn, jetstream.StreamConfig{}, 3)
	s.Start = bus.StartAll
	setup := ensure(t, conn, s)
	js := jetStream(t, conn)
	s.Start = ""
	other := []byte(`{"data":{"jobs":[{"uid":"abc.1"}]}}`)
	if _, err := js.Publish(t.Context(), bus.EventSubject(pool, "succeeded", "b0"), other); err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteConsumer(t.Context(), "ORDERS", pool); err != nil {
		t.Fatal(err)
	}
	if _, _, err := bus.NewSetup(conn, s, pool).Ensure(t.Context()); !errors.Is(err, bus.ErrRefusedSetup) || strings.Contains(err.Error(), "done already") {
		t.Errorf("Ensure() = %v; the pool has worked on another stream only", err)
	}
	orders, err := js.Stream(t.Context(), "ORDERS")
	if err != nil {
		t.Fatal(err)
	}
	done := fmt.Appendf(nil, `{"data":{"jobs":[{"uid":"%s.1"}]}}`, jobs.Epoch(orders.CachedInfo().Created))
	if _, err := js.Publish(t.Context(), bus.EventSubject(pool, "succeeded", "b1"), done); err != nil {
		t.Fatal(err)
	}
	differences, err := setup.Check(t.Context())
	if err != nil || len(differences) != 1 || !strings.Contains(differences[0].Harm, "once more") {
		t.Errorf("Check() = %+v, %v; want it to warn of work done twice", differences, err)
	}
	if _, _, err := bus.NewSetup(conn, s, pool).Ensure(t.Context()); !errors.Is(err, bus.ErrRefusedSetup) || !strings.Contains(err.Error(), "done already") {
		t.Errorf("Ensure() = %v, want a refusal", err)
	}
}

// TestWhatIsSaidOfStreamsOfOthersHarmsNobody: a stream is not to be changed for what is wrong in the settings.
func TestWhatIsSaidOfStreamsOfOthersHarmsNobody(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	s := standing(t, conn, jetstream.StreamConfig{MaxMsgs: 5, Discard: jetstream.DiscardOld}, 0)
	s.Subjects = []string{"zzz.>"}
	found, err := bus.NewSetup(conn, s, pool).Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"subjects": "correct ROLLCALL_SUBJECTS or ROLLCALL_STREAM", "discard": "nats stream edit ORDERS --discard=new"}
	for _, d := range found {
		if fix, ok := want[d.Field]; ok && d.Object == "stream ORDERS" {
			delete(want, d.Field)
			if d.Fix != fix {
				t.Errorf("%s: fix it: %s, want %s", d.Field, d.Fix, fix)
			}
		}
	}
	if len(want) > 0 {
		t.Errorf("nothing is said of %v: %+v", want, found)
	}
}

// A work queue holds nothing but what nobody has done.
func TestAWorkQueueIsTakenFromItsBeginning(t *testing.T) {
	t.Parallel()
	for _, start := range []string{"", bus.StartAll, bus.StartNew} {
		conn := connect(t, startServer(t))
		s := streams()
		s.Start = start
		setup := ensure(t, conn, s)
		if err := jetStream(t, conn).DeleteConsumer(t.Context(), "JOBS", pool); err != nil {
			t.Fatal(err)
		}
		publish(t, conn, "jobs.a", numbered(5)...)
		if _, drift, err := setup.Ensure(t.Context()); err != nil || len(drift) != 0 {
			t.Errorf("ROLLCALL_START=%q: Ensure() = %v, %v", start, drift, err)
		}
		consumer, err := jetStream(t, conn).Consumer(t.Context(), "JOBS", pool)
		if err != nil || consumer.CachedInfo().NumPending != 5 {
			t.Errorf("ROLLCALL_START=%q: %+v, %v; want 5 jobs to wait", start, consumer, err)
		}
	}
}

func TestAPoolThatWouldTakeItsOwnEventsIsRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		stream, subject string
		refused         bool
	}{
		"own events":             {"DONE", "done.batches.mail.>", true},
		"own sets":               {"DONE", "done.sets.*.succeeded.*", true},
		"the events of all":      {"DONE", "done.batches.>", true},
		"the ledger":             {"DONE", "done.ledger.other.>", true},
		"everything":             {"DONE", ">", true},
		"no events":              {"DONE", "jobs.>", true},
		"copies of own events":   {"EVENTS", "batches.mail.failed.*", true},
		"own letters":            {"LETTERS", "dead.mail.>", true},
		"own archive":            {"HISTORY", "history.*.failed", true},
		"events of another pool": {"DONE", "done.batches.billing.>", false},
		"sets of another pool":   {"DONE", "done.sets.billing.succeeded.*", false},
		"jobs":                   {"JOBS", "jobs.>", false},
		"all of another stream":  {"ORDERS", ">", false},
	} {
		s := streams()
		s.Stream, s.Subjects = c.stream, []string{c.subject}
		if err := s.CheckEvents("mail"); (err != nil) != c.refused {
			t.Errorf("%s: %s in %s: got %v, want refused %v", name, c.subject, c.stream, err, c.refused)
		}
	}
	conn := connect(t, startServer(t))
	if _, err := jetStream(t, conn).CreateStream(t.Context(), jetstream.StreamConfig{Name: "COPIES", Subjects: []string{"batches.>"}}); err != nil {
		t.Fatal(err)
	}
	s := streams()
	s.Stream, s.Subjects = "COPIES", []string{">"}
	_, drift, err := bus.NewSetup(conn, s, pool).Ensure(t.Context())
	if err != nil || !errors.Is(bus.Refusal(drift), bus.ErrRefusedSetup) {
		t.Errorf("Ensure() = %+v, %v; want the pool's own events to be found", drift, err)
	}
}

// What would lose or fake jobs is refused, and the refusal names the command that ends it.
func TestWhatWouldLoseOrFakeJobsIsRefused(t *testing.T) {
	t.Parallel()
	type change struct {
		consumer func(*jetstream.ConsumerConfig)
		stream   string
		alter    func(*jetstream.StreamConfig)
		names    string
	}
	for name, c := range map[string]change{
		"headers only":     {consumer: func(c *jetstream.ConsumerConfig) { c.HeadersOnly = true }, names: "nats consumer edit JOBS test --no-headers-only"},
		"pushed":           {consumer: pushed, names: "deliver_subject is push.x, want none: a push consumer cannot be pulled from; fix it: in a work queue, nats consumer rm JOBS test -f && worker setup; in another stream "},
		"a heartbeat":      {consumer: pushed, names: "idle_heartbeat is 5s"},
		"another filter":   {consumer: func(c *jetstream.ConsumerConfig) { c.FilterSubject = "jobs.mail.>" }, names: "nats consumer edit JOBS test --filter='jobs.>'"},
		"pulls too small":  {consumer: func(c *jetstream.ConsumerConfig) { c.MaxRequestMaxBytes = 1000 }, names: "nats consumer info JOBS test --json | jq '.config | del(.max_bytes)' > changed.json && nats consumer edit JOBS test --config=changed.json"},
		"few deliveries":   {consumer: func(c *jetstream.ConsumerConfig) { c.MaxDeliver = 3 }, names: "nats consumer edit JOBS test --max-deliver=-1"},
		"a life":           {consumer: func(c *jetstream.ConsumerConfig) { c.InactiveThreshold = time.Hour }, names: "del(.inactive_threshold)"},
		"DONE ages":        {stream: "DONE", alter: func(c *jetstream.StreamConfig) { c.MaxAge, c.Duplicates = time.Second, time.Second }, names: "nats stream edit DONE --max-age=0s"},
		"DONE small":       {stream: "DONE", alter: func(c *jetstream.StreamConfig) { c.MaxMsgSize = 4096 }, names: "nats stream edit DONE --max-msg-size=-1"},
		"DONE discards":    {stream: "DONE", alter: func(c *jetstream.StreamConfig) { c.Discard, c.MaxMsgs = jetstream.DiscardOld, 10 }, names: "nats stream edit DONE --discard=new"},
		"DEAD small":       {stream: "DEAD", alter: func(c *jetstream.StreamConfig) { c.MaxMsgSize = 4096 }, names: "nats stream edit DEAD --max-msg-size=-1"},
		"JOBS ages":        {stream: "JOBS", alter: func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour }, names: "nats stream edit JOBS --max-age=0s"},
		"JOBS discards":    {stream: "JOBS", alter: func(c *jetstream.StreamConfig) { c.Discard, c.MaxMsgs = jetstream.DiscardOld, 10 }, names: "nats stream edit JOBS --discard=new"},
		"JOBS other names": {stream: "JOBS", alter: func(c *jetstream.StreamConfig) { c.Subjects = []string{"jobs.a.>"} }, names: "nats stream edit JOBS --subjects='jobs.>'"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := connect(t, startServer(t))
			setup := ensure(t, conn, streams())
			js := jetStream(t, conn)
			if c.consumer != nil {
				alterConsumer(t, js, c.consumer)
			} else {
				stream, err := js.Stream(t.Context(), c.stream)
				if err != nil {
					t.Fatal(err)
				}
				config := stream.CachedInfo().Config
				c.alter(&config)
				if _, err := js.UpdateStream(t.Context(), config); err != nil {
					t.Fatal(err)
				}
			}
			_, drift, err := setup.Ensure(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := bus.Refusal(drift); !errors.Is(err, bus.ErrRefusedSetup) || !strings.Contains(err.Error(), c.names) {
				t.Errorf("refused with %v, want %q", err, c.names)
			}
		})
	}
}

// pushed makes a consumer one that the server pushes to.
func pushed(c *jetstream.ConsumerConfig) {
	c.DeliverSubject, c.IdleHeartbeat = "push.x", 5*time.Second
	c.MaxWaiting, c.PriorityGroups, c.PriorityPolicy = 0, nil, 0
}

// alterConsumer changes the pool's consumer as an operator could; what the server does not let
// one change is made anew.
func alterConsumer(t *testing.T, js jetstream.JetStream, change func(*jetstream.ConsumerConfig)) {
	t.Helper()
	consumer, err := js.Consumer(t.Context(), "JOBS", pool)
	if err != nil {
		t.Fatal(err)
	}
	config := consumer.CachedInfo().Config
	change(&config)
	if err := js.DeleteConsumer(t.Context(), "JOBS", pool); err != nil {
		t.Fatal(err)
	}
	if config.DeliverSubject == "" {
		_, err = js.CreateConsumer(t.Context(), "JOBS", config)
	} else {
		_, err = js.CreatePushConsumer(t.Context(), "JOBS", config)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestHarmlessDifferencesAreListedAsSuch(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	setup := ensure(t, conn, streams())
	js := jetStream(t, conn)
	alterConsumer(t, js, func(c *jetstream.ConsumerConfig) { c.SampleFrequency, c.Description = "100%", "ours" })
	stream, err := js.Stream(t.Context(), "DONE")
	if err != nil {
		t.Fatal(err)
	}
	config := stream.CachedInfo().Config
	config.Compression, config.MaxBytes, config.Metadata = jetstream.S2Compression, 1<<30, map[string]string{"team": "a"}
	if _, err := js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	drift, err := setup.Check(t.Context())
	if err != nil || len(drift) != 3 {
		t.Fatalf("Check() = %+v, %v; want compression, max_bytes and sample_freq", drift, err)
	}
	for _, d := range drift {
		if !d.Harmless || d.Fatal {
			t.Errorf("%+v, want it harmless", d)
		}
	}
}

func TestAnAccountThatWantsLimitsIsExplainedAndUsable(t *testing.T) {
	t.Parallel()
	s := startServer(t, func(o *server.Options) { o.JetStreamMaxStore, o.JetStreamLimits.MaxAckPending = 1<<30, 3000 })
	if err := s.GlobalAccount().UpdateJetStreamLimits(map[string]server.JetStreamAccountLimits{
		"": {MaxMemory: -1, MaxStore: 64 << 20, MaxStreams: -1, MaxConsumers: -1, MaxBytesRequired: true, MaxAckPending: -1, MemoryMaxStreamBytes: -1, StoreMaxStreamBytes: -1},
	}); err != nil {
		t.Fatal(err)
	}
	conn := connect(t, s)
	if _, _, err := bus.NewSetup(conn, streams(), pool).Ensure(t.Context()); err == nil || !strings.Contains(err.Error(), "ROLLCALL_STREAM_BYTES") {
		t.Errorf("Ensure() = %v, want it to name the settings", err)
	}
	limited := streams()
	limited.StreamBytes, limited.LaterBytes, limited.DoneBytes, limited.DeadBytes = 16<<20, 4<<20, 16<<20, 8<<20
	if _, drift, err := bus.NewSetup(conn, limited, pool).Ensure(t.Context()); err != nil || bus.Refusal(drift) != nil {
		t.Errorf("with limits: %v, %v", drift, err)
	}
	consumer, err := jetStream(t, conn).Consumer(t.Context(), "JOBS", pool)
	if err != nil || consumer.CachedInfo().Config.MaxAckPending != 1000 {
		t.Errorf("the consumer is %+v, %v; want it to keep to the server's limit", consumer, err)
	}
}

// What nobody has thought about is reported, not passed over.
func TestADifferenceThatNobodyKnowsIsReported(t *testing.T) {
	t.Parallel()
	type config struct {
		Name    string `json:"name"`
		Unheard bool   `json:"unheard_of"`
	}
	found, err := bus.Differences("stream X", config{Name: "a", Unheard: true}, config{Name: "b"})
	if err != nil || len(found) != 1 || found[0].Field != "unheard_of" || found[0].Harmless || found[0].Fatal {
		t.Errorf("got %+v, %v; want unheard_of reported", found, err)
	}
}

// While a pool works somebody changes the consumer: nothing must be taken from it any more.
func TestAConsumerThatIsChangedUnderAPoolIsNotUsed(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	setup := ensure(t, conn, streams())
	source := pulling(t, setup, conn)
	eventually(t, "the source is bound", func() bool { return source.Healthy() == nil })
	alterConsumer(t, jetStream(t, conn), func(c *jetstream.ConsumerConfig) { c.HeadersOnly = true })
	eventually(t, "the source refuses the consumer", func() bool { return errors.Is(source.Healthy(), bus.ErrRefusedSetup) })
}

// A consumer of a stream that keeps what is done is not made again behind everybody's back.
func TestADeletedConsumerOfAStreamThatKeepsIsLeftToPeople(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	s := standing(t, conn, jetstream.StreamConfig{}, 3)
	s.Start = bus.StartAll
	setup := ensure(t, conn, s)
	source := pulling(t, setup, conn)
	eventually(t, "the source is bound", func() bool { return source.Healthy() == nil })
	if err := jetStream(t, conn).DeleteConsumer(t.Context(), "ORDERS", pool); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the source says what to do", func() bool {
		err := source.Healthy()
		return errors.Is(err, bus.ErrMissing) && strings.Contains(err.Error(), "keeps what is done")
	})
}

// pulling returns a source that asks for jobs until the test ends.
func pulling(t *testing.T, setup *bus.Setup, conn *bus.Conn) *bus.Source {
	t.Helper()
	source, intake, stop := openSource(t, setup, conn)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for intake.Err() == nil {
			if _, err := source.Receive(intake, jobs.Room{Jobs: 100, Bytes: 1 << 20}); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		stop()
		<-done
	})
	return source
}
