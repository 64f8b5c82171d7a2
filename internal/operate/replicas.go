package operate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/rs/zerolog"

	"rollcall/internal/jobs"
)

const (
	// ServiceName is how replicas are found with `nats micro ls`.
	ServiceName = "rollcall"
	// metaPool and metaReplica are in the metadata of every replica.
	metaPool    = "pool"
	metaReplica = "replica"
	metaDigest  = "digest"

	endpointStatus = "status"
	endpointDrain  = "drain"
	endpointCancel = "cancel"

	// gatherQuiet is how long replicas are waited for after the last that answered, and
	// gatherMost how long for the first, and for all. Where there is none, the server says so
	// at once.
	gatherQuiet = 400 * time.Millisecond
	gatherMost  = 5 * time.Second
	// replicaTimeout bounds one question to a replica.
	replicaTimeout = 5 * time.Second
)

// ReplicaSubject is where a replica is asked to do something: status, drain or cancel.
func ReplicaSubject(pool, replica, endpoint string) string {
	return "rollcall." + pool + "." + replica + "." + endpoint
}

// Announcement is how a replica introduces itself, and what it can be asked for.
type Announcement struct {
	Pool, Replica, Version string
	// Digest sums up the settings that the replicas of a pool should have in common.
	Digest string
	// Status is called for every question.
	Status func() jobs.ReplicaState
	// Drain begins the drain of the replica and returns at once.
	Drain func()
	// Cancel drops jobs that somebody cancelled and returns at once.
	Cancel func([]jobs.Ref)
	Log    zerolog.Logger
}

// semantic is what the micro protocol takes for a version (semver.org).
var semantic = regexp.MustCompile(`^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)([-+][0-9A-Za-z.+-]+)?$`)

// cancel drops the jobs that a request names.
func (a *Announcement) cancel(r micro.Request) {
	var request cancelRequest
	if err := json.Unmarshal(r.Data(), &request); err != nil {
		if err := r.Error("400", `want {"uids":["…"]}`, nil); err != nil {
			a.Log.Debug().Err(err).Str("subject", r.Subject()).Msg("a question could not be answered")
		}
		return
	}
	a.Cancel(request.refs())
	a.answer(r)
}

func (a *Announcement) answer(r micro.Request) {
	if err := r.RespondJSON(a.Status()); err != nil {
		a.Log.Debug().Err(err).Str("subject", r.Subject()).Msg("a question could not be answered")
	}
}

// Replicas asks every replica of the pool how it is, and returns those that answered in time.
func (a *Admin) Replicas(ctx context.Context) ([]jobs.ReplicaState, error) {
	digests, err := a.Digests(ctx)
	if err != nil {
		return nil, err
	}
	names := slices.Sorted(maps.Keys(digests))
	states := make([]*jobs.ReplicaState, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() {
			if state, err := a.ask(ctx, name, endpointStatus); err == nil {
				states[i] = &state
			}
		})
	}
	wg.Wait()
	var all []jobs.ReplicaState
	for _, state := range states {
		if state != nil {
			all = append(all, *state)
		}
	}
	return all, nil
}

// Drain asks a replica to take no more jobs, finish what it holds and end. The error wraps
// [ErrNotFound] if there is no such replica.
func (a *Admin) Drain(ctx context.Context, replica string) (jobs.ReplicaState, error) {
	return a.ask(ctx, replica, endpointDrain)
}

// Replica asks one replica how it is. The error wraps [ErrNotFound] if there is none.
func (a *Admin) Replica(ctx context.Context, replica string) (jobs.ReplicaState, error) {
	return a.ask(ctx, replica, endpointStatus)
}

func (a *Admin) ask(ctx context.Context, replica, endpoint string) (state jobs.ReplicaState, err error) {
	ctx, cancel := context.WithTimeout(ctx, replicaTimeout)
	defer cancel()
	if jobs.CheckSubject(replica) != nil || strings.Contains(replica, ".") {
		return state, fmt.Errorf("replica %q of pool %s: %w", replica, a.pool, ErrNotFound)
	}
	m, err := a.conn.NATS().RequestWithContext(ctx, ReplicaSubject(a.pool, replica, endpoint), nil)
	if errors.Is(err, nats.ErrNoResponders) {
		return state, fmt.Errorf("replica %s of pool %s: %w; 'worker status' lists them", replica, a.pool, ErrNotFound)
	}
	if err == nil {
		err = json.Unmarshal(m.Data, &state)
	}
	if err != nil {
		return state, fmt.Errorf("ask replica %s for %s: %w", replica, endpoint, err)
	}
	return state, nil
}

// Digests asks the replicas of the pool for their names and the digests of their settings: one
// question, one short reply of each.
func (a *Admin) Digests(ctx context.Context) (digests map[string]string, err error) {
	subject, err := micro.ControlSubject(micro.PingVerb, ServiceName, "")
	if err != nil {
		return nil, fmt.Errorf("list replicas: %w", err)
	}
	nc := a.conn.NATS()
	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return nil, fmt.Errorf("list replicas: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }() // a connection that is gone needs none
	if err := nc.PublishRequest(subject, inbox, nil); err != nil {
		return nil, fmt.Errorf("list replicas: %w", err)
	}
	digests = map[string]string{}
	patience := gatherMost
	for deadline := time.Now().Add(gatherMost); ; patience = gatherQuiet {
		wait, cancel := context.WithTimeout(ctx, min(patience, time.Until(deadline)))
		m, err := sub.NextMsgWithContext(wait)
		cancel()
		if err != nil {
			if ctx.Err() != nil {
				return nil, fmt.Errorf("list replicas: %w", context.Cause(ctx))
			}
			if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrNoResponders) {
				return digests, nil
			}
			return nil, fmt.Errorf("list replicas: %w", err)
		}
		var ping micro.Ping
		if json.Unmarshal(m.Data, &ping) == nil && ping.Metadata[metaPool] == a.pool {
			digests[ping.Metadata[metaReplica]] = ping.Metadata[metaDigest]
		}
	}
}
