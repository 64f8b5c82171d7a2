package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Services are the microservices of a benchmark, each on a loopback port of its own.
type Services struct {
	Count int
	// Delay before a reply, give or take Jitter, evenly spread.
	Delay, Jitter time.Duration
	// RetryShare of the jobs, 0 to 1, are answered "retry" by the first service the first
	// time it sees them.
	RetryShare float64
}

// Run serves until ctx is done.
func (s Services) Run(ctx context.Context, out io.Writer) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	var urls []byte
	for i := range s.Count {
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return fmt.Errorf("listen for service %d: %w", i, err)
		}
		srv := &http.Server{Handler: s.handler(i), ReadHeaderTimeout: time.Minute}
		wg.Go(func() { _ = srv.Serve(listener) }) // always http.ErrServerClosed, by the line below
		defer srv.Close()
		urls = fmt.Appendf(urls, "http://%s/ ", listener.Addr())
	}
	if _, err := fmt.Fprintf(out, "%s\n", urls); err != nil {
		return fmt.Errorf("report the services' addresses: %w", err)
	}
	<-ctx.Done()
	return nil
}

func (s Services) handler(i int) http.Handler {
	if i == 0 && s.RetryShare > 0 {
		return &flaky{
			every: max(1, int(1/s.RetryShare)), seed: maphash.MakeSeed(), seen: map[uint64]struct{}{},
			buffers: sync.Pool{New: func() any { return new(bytes.Buffer) }},
		}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		s.wait(r.Context())
	})
}

// wait takes the time that a service takes.
func (s Services) wait(ctx context.Context) {
	d := s.Delay
	if s.Jitter > 0 {
		d += rand.N(2*s.Jitter) - s.Jitter
	}
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// flaky answers "retry" for some jobs the first time it sees them, in SQS's dialect, where
// what is not listed succeeded.
type flaky struct {
	every   int
	seed    maphash.Seed
	buffers sync.Pool // of *bytes.Buffer

	mu   sync.Mutex
	seen map[uint64]struct{}
}

// ServeHTTP implements http.Handler.
func (f *flaky) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	buf := f.buffers.Get().(*bytes.Buffer)
	defer f.buffers.Put(buf)
	buf.Reset()
	if _, err := buf.ReadFrom(r.Body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	body := buf.Bytes()
	answer := []byte(`{"batchItemFailures":[`)
	first := true
	for _, id := range ids(body) {
		if !f.refuse(id) {
			continue
		}
		if !first {
			answer = append(answer, ',')
		}
		first = false
		answer = append(answer, `{"itemIdentifier":`...)
		answer = strconv.AppendQuote(answer, string(id))
		answer = append(answer, '}')
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(answer, `]}`...)) // a client that is gone needs no reply
}

// refuse reports whether the job is one to retry, seen for the first time. The jobs are
// chosen by their hash, so that the share holds in any order and batch.
func (f *flaky) refuse(id []byte) bool {
	h := maphash.Bytes(f.seed, id)
	if h%uint64(f.every) != 0 {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, again := f.seen[h]; again {
		return false
	}
	f.seen[h] = struct{}{}
	return true
}

// ids finds the ids of the CloudEvents in a body by their key alone: decoding the whole
// body would take more of the processor than the worker under test does. The payloads of a
// benchmark have no such key.
func ids(body []byte) [][]byte {
	var found [][]byte
	key := []byte(`"id":"`)
	for {
		_, rest, ok := bytes.Cut(body, key)
		if !ok {
			return found
		}
		id, rest, ok := bytes.Cut(rest, []byte{'"'})
		if !ok {
			return found
		}
		found, body = append(found, id), rest
	}
}

// errNoServices reports that a peer was started without services.
var errNoServices = errors.New("no service addresses given")
