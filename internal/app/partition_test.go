package app_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"rollcall/internal/app"
	"rollcall/internal/faulttest"
)

// severable is the way to an embedded server, which can be cut and made whole again.
type severable struct {
	way nats.InProcessConnProvider

	mu    sync.Mutex
	cut   bool
	conns []net.Conn
}

// InProcessConn implements [nats.InProcessConnProvider].
func (s *severable) InProcessConn() (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cut {
		return nil, errors.New("the way is cut")
	}
	conn, err := s.way.InProcessConn()
	s.conns = append(s.conns, conn)
	return conn, err
}

func (s *severable) sever(cut bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut = cut
	for _, conn := range s.conns {
		_ = conn.Close() // ended already if it was cut before
	}
	s.conns = nil
}

// TestAPartitionLongerThanTheHorizon: the service of a replica that is cut off answers, another
// replica finishes the jobs and their pages are swept before the line comes back. A commit that
// waited for the line would find no page and be taken for the first.
func TestAPartitionLongerThanTheHorizon(t *testing.T) {
	t.Parallel()
	const n, bucket = 20, 4096
	r := newRig(t, []string{"billing"}, "ROLLCALL_ACK_WAIT=1s", "ROLLCALL_ZOMBIE_HORIZON=2s", "ROLLCALL_LEDGER_TTL=1h")
	var way nats.Options
	if err := r.inProcess(&way); err != nil {
		t.Fatal(err)
	}
	line := &severable{way: way.InProcessServer}
	called, answer := make(chan struct{}), make(chan struct{})
	var first sync.Once
	r.services["billing"].Answer(func(faulttest.Request) faulttest.Answer {
		first.Do(func() {
			close(called)
			<-answer
		})
		return faulttest.Answer{}
	})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	opts := app.Options{Replica: "cut-off", NATS: []nats.Option{nats.InProcessServer(line)}}
	go func() { ended <- app.Run(ctx, r.config(), zerolog.Nop(), opts) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the replica that was cut off ended with %v", err)
		}
	}()
	r.load.Publish(n, limit)
	<-called

	line.sever(true)
	close(answer)
	r.start()
	r.load.Publish(bucket, limit) // a bucket of pages is swept once all of its jobs are done
	faulttest.WaitRest(t, r.js, "JOBS", "default", limit)
	pages := func() (left int) {
		for _, m := range r.stored("DONE") {
			if strings.Contains(m.Subject, ".page.") {
				left++
			}
		}
		return left
	}
	eventually(t, "the first bucket of pages is swept", func() bool { return pages() <= n })
	line.sever(false)
	eventually(t, "the replica is back", func() bool {
		line.mu.Lock()
		defer line.mu.Unlock()
		return len(line.conns) > 0
	})
	r.load.Publish(1, limit)
	r.judge()
}
