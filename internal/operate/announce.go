package operate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/micro"

	"rollcall/internal/bus"
	"rollcall/internal/retry"
)

const (
	// minReannounce and maxReannounce pace the registrations that follow one that was lost.
	minReannounce = 2 * time.Second
	maxReannounce = time.Minute
)

// Announce registers the replica as a NATS micro service, so that the nats CLI and `worker
// status` find it, and again when the server has dropped the registration: a right may come
// back. The returned function takes it back; it must be called before the connection is closed.
// Without the right to subscribe, the replica works and is not found.
func Announce(conn *bus.Conn, a Announcement) (withdraw func() error, err error) {
	service, err := a.register(conn)
	if err != nil {
		return nil, err
	}
	lost := make(chan struct{}, 1)
	own := "rollcall." + a.Pool + "." + a.Replica + "."
	conn.OnLost(func(subject string) {
		if strings.HasPrefix(subject, micro.APIPrefix) || strings.HasPrefix(subject, own) {
			select {
			case lost <- struct{}{}:
			default:
			}
		}
	})
	ctx, cancel := context.WithCancel(context.Background())
	var keeping sync.WaitGroup
	keeping.Go(func() { service = a.keep(ctx, conn, service, lost) })
	return func() error {
		cancel()
		keeping.Wait()
		return service.Stop()
	}, nil
}

// keep registers the replica again whenever its registration was lost, until ctx is done, and
// returns the last one.
func (a *Announcement) keep(ctx context.Context, conn *bus.Conn, service micro.Service, lost <-chan struct{}) micro.Service {
	again := retry.Backoff{Lo: minReannounce, Hi: maxReannounce}
	for {
		select {
		case <-lost:
		case <-ctx.Done():
			return service
		}
		if retry.Wait(ctx, again.Next()) != nil {
			return service
		}
		select {
		case <-lost: // all of its subscriptions are made again
		default:
		}
		if err := service.Stop(); err != nil {
			a.Log.Debug().Err(err).Msg("the lost registration could not be taken back")
		}
		next, err := a.register(conn)
		if err != nil { // the connection is closed: withdraw comes next
			a.Log.Debug().Err(err).Msg("the replica could not be registered again")
			continue
		}
		service = next
	}
}

// register registers the replica once.
func (a *Announcement) register(conn *bus.Conn) (micro.Service, error) {
	version := strings.TrimPrefix(a.Version, "v")
	if !semantic.MatchString(version) {
		version = "0.0.0-unreleased"
	}
	service, err := micro.AddService(conn.NATS(), micro.Config{
		Name: ServiceName, Version: version, Description: "Rollcall replica " + a.Replica + " of pool " + a.Pool,
		Metadata: map[string]string{metaPool: a.Pool, metaReplica: a.Replica, metaDigest: a.Digest},
	})
	if err != nil {
		return nil, fmt.Errorf("register replica %s as a micro service: %w", a.Replica, err)
	}
	endpoints := map[string]micro.HandlerFunc{
		endpointStatus: func(r micro.Request) { a.answer(r) },
		endpointDrain: func(r micro.Request) {
			a.answer(r)
			a.Drain()
		},
		endpointCancel: func(r micro.Request) { a.cancel(r) },
	}
	for name, handle := range endpoints {
		if err := service.AddEndpoint(name, handle, micro.WithEndpointSubject(ReplicaSubject(a.Pool, a.Replica, name))); err != nil {
			return nil, errors.Join(fmt.Errorf("register %s of replica %s: %w", name, a.Replica, err), service.Stop())
		}
	}
	// A client that sees that the replica is ready may ask for it at once.
	if err := conn.NATS().FlushTimeout(replicaTimeout); err != nil {
		a.Log.Debug().Err(err).Msg("the server has not confirmed the registration as a micro service")
	}
	return service, nil
}
