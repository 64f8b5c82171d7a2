package bus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	doneMaxAge = 7 * 24 * time.Hour
	deadMaxAge = 30 * 24 * time.Hour

	// maxAckPending bounds the jobs that are out with replicas or waiting out a back-off: a
	// job naked with a delay stays pending (consumer.go, processNak), and a full set stops
	// all delivery. A tenth of 5,000 jobs a second failing for five minutes is 150,000.
	maxAckPending = 500_000
	// maxWaiting bounds the pull requests of all replicas together.
	maxWaiting = 4096
	// priorityGroup is what a consumer with ranked pulls wants named in each.
	priorityGroup = "replicas"
)

// The oldest server with atomic publishes, message TTLs and schedules as the ledger and
// delayed jobs need them.
var oldestServer = [3]int{2, 12, 1}

// Setup knows the streams and the consumer that a pool needs.
type Setup struct {
	conn    *Conn
	streams Streams
	pool    string
}

// NewSetup returns the setup of a pool.
func NewSetup(conn *Conn, streams Streams, pool string) *Setup {
	return &Setup{conn: conn, streams: streams, pool: pool}
}

// CheckVersion returns an error that wraps [ErrServerTooOld] if a nats-server of that version
// lacks something Rollcall is built on.
func CheckVersion(version string) error {
	release, _, _ := strings.Cut(strings.TrimPrefix(version, "v"), "-")
	parts := strings.Split(release, ".")
	for i, want := range oldestServer {
		have := 0
		if i < len(parts) {
			have, _ = strconv.Atoi(parts[i])
		}
		if have > want {
			return nil
		}
		if have < want {
			return fmt.Errorf("nats-server %s: %w: Rollcall needs %d.%d.%d or later; upgrade the server",
				version, ErrServerTooOld, oldestServer[0], oldestServer[1], oldestServer[2])
		}
	}
	return nil
}

// Check reads the server and returns what is missing and what differs from what Rollcall
// would create. It changes nothing.
func (s *Setup) Check(ctx context.Context) ([]Difference, error) {
	if err := CheckVersion(s.conn.nc.ConnectedServerVersion()); err != nil {
		return nil, err
	}
	var all []Difference
	for _, o := range s.objects() {
		differences, err := o.check(ctx)
		if err != nil {
			return nil, Explain("look up "+o.name(), err)
		}
		all = append(all, differences...)
	}
	return all, nil
}

// Ensure creates what is missing and returns the names of what it created, and how the rest
// differs from what Rollcall would create. What exists is never changed nor deleted. With
// ROLLCALL_ENSURE=false nothing is created, and the error wraps [ErrMissing] if something is
// missing. Any number of replicas may do this at once.
func (s *Setup) Ensure(ctx context.Context) (created []string, drift []Difference, err error) {
	if err := CheckVersion(s.conn.nc.ConnectedServerVersion()); err != nil {
		return nil, nil, err
	}
	for _, o := range s.objects() {
		differences, err := o.check(ctx)
		if err != nil {
			return created, drift, Explain("look up "+o.name(), err)
		}
		if len(differences) == 0 || !differences[0].Missing {
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
				return created, drift, Explain("look up "+o.name(), err)
			}
			drift = append(drift, differences...)
		default:
			return created, drift, Explain("create "+o.name(), err)
		}
	}
	return created, drift, nil
}

// object is a stream or consumer that Rollcall needs.
type object interface {
	name() string
	// check returns one Difference with Missing set, or how the existing one differs.
	check(ctx context.Context) ([]Difference, error)
	create(ctx context.Context) error
}

// objects returns what the pool needs, in the order of creation.
func (s *Setup) objects() []object {
	return []object{
		streamObject{s.conn.js, s.jobsConfig(), jobsFields},
		streamObject{s.conn.js, s.doneConfig(), doneFields},
		streamObject{s.conn.js, s.deadConfig(), deadFields},
		consumerObject{s.conn.js, s.streams.Stream, s.consumerConfig()},
	}
}

type streamObject struct {
	js     jetstream.JetStream
	want   jetstream.StreamConfig
	fields func(have, want *jetstream.StreamConfig) []Difference
}

func (o streamObject) name() string { return "stream " + o.want.Name }

func (o streamObject) check(ctx context.Context) ([]Difference, error) {
	stream, err := o.js.Stream(ctx, o.want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return []Difference{{Object: o.name(), Missing: true}}, nil
	}
	if err != nil {
		return nil, err
	}
	differences := o.fields(&stream.CachedInfo().Config, &o.want)
	for i := range differences {
		differences[i].Object = o.name()
	}
	return differences, nil
}

func (o streamObject) create(ctx context.Context) error {
	_, err := o.js.CreateStream(ctx, o.want)
	return err
}

type consumerObject struct {
	js     jetstream.JetStream
	stream string
	want   jetstream.ConsumerConfig
}

func (o consumerObject) name() string { return "consumer " + o.stream + "/" + o.want.Durable }

func (o consumerObject) check(ctx context.Context) ([]Difference, error) {
	consumer, err := o.js.Consumer(ctx, o.stream, o.want.Durable)
	if errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) {
		return []Difference{{Object: o.name(), Missing: true}}, nil
	}
	if err != nil {
		return nil, err
	}
	differences := consumerFields(&consumer.CachedInfo().Config, &o.want)
	for i := range differences {
		differences[i].Object = o.name()
	}
	return differences, nil
}

func (o consumerObject) create(ctx context.Context) error {
	_, err := o.js.CreateConsumer(ctx, o.stream, o.want)
	return err
}
