package bus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// maxAckPending bounds the jobs that are out with replicas or waiting out a back-off: a
	// job that was nak'd with a delay stays pending (consumer.go, processNak), and a full set stops
	// all delivery. A tenth of 5,000 jobs a second failing for five minutes is 150,000.
	maxAckPending = 500_000
	// duplicateWindow is how long the server remembers message ids: its own default.
	duplicateWindow = 2 * time.Minute
	// maxWaiting bounds the pull requests of all replicas together.
	maxWaiting = 4096
	// optionalTimeout bounds a look at what jobs can be done without.
	optionalTimeout = time.Second
	// priorityGroup is what a consumer with ranked pulls wants named in each.
	priorityGroup = "replicas"
)

// Versions of nats-server, see [atLeast].
var (
	// oldestServer has atomic publishes and message TTLs as the ledger needs them.
	oldestServer = [3]int{2, 12, 1}
	// oldestDelays keeps an index of what a stream has sourced (filestore.go, SourcesState).
	oldestDelays = [3]int{2, 15, 0}
)

// Setup knows the streams and the consumer that a pool needs.
type Setup struct {
	conn    *Conn
	streams Streams
	pool    string
	water   *HighWater
}

// NewSetup returns the setup of a pool.
func NewSetup(conn *Conn, streams Streams, pool string) *Setup {
	return &Setup{conn: conn, streams: streams, pool: pool, water: newHighWater(conn, streams.Stream, streams.DoneAge)}
}

// HighWater returns what notices that the broker's data was set back.
func (s *Setup) HighWater() *HighWater { return s.water }

// CheckVersion returns an error that wraps [ErrServerTooOld] if a nats-server of that version
// lacks something Rollcall is built on.
func CheckVersion(version string) error {
	if atLeast(version, oldestServer) {
		return nil
	}
	return fmt.Errorf("nats-server %s: %w: Rollcall needs %d.%d.%d or later; upgrade the server",
		version, ErrServerTooOld, oldestServer[0], oldestServer[1], oldestServer[2])
}

// CheckDelays returns an error that wraps [ErrServerTooOld] if a nats-server of that version
// can run a pool, but not delay jobs.
func CheckDelays(version string) error {
	if atLeast(version, oldestDelays) {
		return nil
	}
	return fmt.Errorf("nats-server %s: %w for delayed jobs, which need %d.%d or later: it would hand them out more than once; upgrade the server",
		version, ErrServerTooOld, oldestDelays[0], oldestDelays[1])
}

// atLeast reports whether a version such as "v2.12.1-beta" is want or later.
func atLeast(version string, want [3]int) bool {
	release, _, _ := strings.Cut(strings.TrimPrefix(version, "v"), "-")
	parts := strings.Split(release, ".")
	for i := range want {
		have := 0
		if i < len(parts) {
			have, _ = strconv.Atoi(parts[i])
		}
		if have != want[i] {
			return have > want[i]
		}
	}
	return true
}

// Check reads the server and returns what is missing and what differs from what Rollcall
// would create. It changes nothing.
func (s *Setup) Check(ctx context.Context) ([]Difference, error) {
	if err := CheckVersion(s.conn.nc.ConnectedServerVersion()); err != nil {
		return nil, err
	}
	objects, err := s.objects(ctx)
	if err != nil {
		return nil, err
	}
	var all []Difference
	for _, o := range objects {
		differences, err := s.check(ctx, o)
		if err != nil {
			return nil, s.conn.Explain("look up "+o.name(), err)
		}
		all = append(all, differences...)
	}
	s.foretell(ctx, objects, all)
	return all, nil
}

// Ensure creates what is missing and returns the names of what it created, and how the rest
// differs from what Rollcall would create. Existing objects are never changed nor deleted, and
// a pool that may not work on them, see [Refusal], gets no consumer. With
// ROLLCALL_ENSURE=false nothing is created, and the error wraps [ErrMissing] if something is
// missing that no job can be done without. Any number of replicas may do this at once.
func (s *Setup) Ensure(ctx context.Context) (created []string, drift []Difference, err error) {
	if err := CheckVersion(s.conn.nc.ConnectedServerVersion()); err != nil {
		return nil, nil, err
	}
	objects, err := s.objects(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, o := range objects {
		differences, err := s.check(ctx, o)
		if err != nil {
			return created, drift, s.conn.Explain("look up "+o.name(), err)
		}
		if len(differences) == 0 || !differences[0].Missing {
			drift = append(drift, differences...)
			continue
		}
		if _, isConsumer := o.(consumerObject); isConsumer && Refusal(drift) != nil {
			continue
		}
		if !s.streams.Ensure && !o.essential() {
			drift = append(drift, differences...)
			continue
		}
		if !s.streams.Ensure {
			return created, drift, fmt.Errorf("%s is %w; run `worker setup`, or set ROLLCALL_ENSURE=true", o.name(), ErrMissing)
		}
		switch err := o.create(ctx); {
		case err == nil:
			created = append(created, o.name())
		case errors.Is(err, jetstream.ErrStreamNameAlreadyInUse), errors.Is(err, jetstream.ErrConsumerExists):
			// Somebody else was first, with other settings.
			if differences, err = o.check(ctx); err != nil {
				return created, drift, s.conn.Explain("look up "+o.name(), err)
			}
			drift = append(drift, differences...)
		default:
			return created, drift, s.conn.Explain("create "+o.name(), err)
		}
	}
	return created, drift, nil
}

// check looks at an object. The user needs no right to look at an object that jobs do not depend on.
func (s *Setup) check(ctx context.Context, o object) ([]Difference, error) {
	if o.essential() {
		return o.check(ctx)
	}
	looking, cancel := context.WithTimeout(ctx, optionalTimeout)
	defer cancel()
	differences, err := o.check(looking)
	if err != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		return []Difference{{
			Object: o.name(), Field: "state", Have: "unknown", Want: "known", Harm: "delayed jobs may not work: no answer, or no right to look",
		}}, nil
	}
	return differences, err
}

// object is a stream or consumer that Rollcall needs.
type object interface {
	name() string
	// essential reports whether no job can be done without it.
	essential() bool
	// check returns one Difference with Missing set, or how the existing one differs.
	check(ctx context.Context) ([]Difference, error)
	create(ctx context.Context) error
}

// objects returns what the pool needs, in the order of creation. LATER is of use only where
// the job stream takes from it.
func (s *Setup) objects(ctx context.Context) ([]object, error) {
	stream, err := s.conn.js.Stream(ctx, s.streams.Stream)
	if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, s.conn.Explain("look up stream "+s.streams.Stream, err)
	}
	var all []object
	missing := stream == nil
	if s.streams.Delays(s.conn) && (missing || takesDelayed(&stream.CachedInfo().Config)) {
		all = append(all, s.stream(s.laterConfig(), laterEffects))
	}
	consumer := consumerObject{setup: s, want: s.consumerConfig()}
	switch {
	case s.streams.Stream == StreamDone: // looked at below
	case missing || s.owns(&stream.CachedInfo().Config):
		all = append(all, s.stream(s.jobsConfig(), jobsEffects))
	default:
		all = append(all, foreignStream{setup: s})
	}
	payload := s.conn.nc.MaxPayload()
	return append(all,
		s.stream(s.doneConfig(), func(have, want *jetstream.StreamConfig) map[string]effect {
			return doneEffects(have, want, payload, s.streams.LedgerTTL)
		}),
		s.stream(s.deadConfig(), func(have, want *jetstream.StreamConfig) map[string]effect {
			return deadEffects(have, want, payload)
		}),
		consumer,
	), nil
}

// stream returns a stream of our own.
func (s *Setup) stream(want jetstream.StreamConfig, effects func(have, want *jetstream.StreamConfig) map[string]effect) streamObject {
	return streamObject{s.conn.js, want, effects}
}

// takesDelayed reports whether a job stream sources LATER.
func takesDelayed(cfg *jetstream.StreamConfig) bool {
	return slices.ContainsFunc(cfg.Sources, func(s *jetstream.StreamSource) bool { return s.Name == StreamLater })
}

type streamObject struct {
	js      jetstream.JetStream
	want    jetstream.StreamConfig
	effects func(have, want *jetstream.StreamConfig) map[string]effect
}

func (o streamObject) name() string { return "stream " + o.want.Name }

func (o streamObject) essential() bool { return o.want.Name != StreamLater }

func (o streamObject) check(ctx context.Context) ([]Difference, error) {
	stream, err := o.js.Stream(ctx, o.want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return []Difference{{Object: o.name(), Missing: true}}, nil
	}
	if err != nil {
		return nil, err
	}
	have := &stream.CachedInfo().Config
	return differences(o.name(), have, &o.want, o.effects(have, &o.want))
}

func (o streamObject) create(ctx context.Context) error {
	_, err := o.js.CreateStream(ctx, o.want)
	return err
}
