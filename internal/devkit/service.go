package devkit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

const (
	// mediaBatch is the content type of a call.
	mediaBatch = "application/cloudevents-batch+json"
	// maxCall bounds what a service reads of one call, in bytes. A batch holds 1 MiB of
	// bodies, base64 and envelopes come on top; the bound is for accidents.
	maxCall = 64 << 20
)

// Job is one CloudEvent of a call, as far as the demo services look at it.
type Job struct {
	ID     string `json:"id"`
	Source string `json:"source"`
	UID    string `json:"rollcalluid"`
	Type   string `json:"type"`
}

// Call is one request that arrived at a service.
type Call struct {
	// Key is the value of Idempotency-Key.
	Key string
	// Received is when the request had been read.
	Received time.Time
	Jobs     []Job
}

// Result is the reply for one job in the results dialect.
type Result struct {
	ID     string `json:"id"`
	Status string `json:"status"`
	Error  string `json:"error,omitempty"`
}

// Answer is what a service says to a call.
type Answer struct {
	// Code is the HTTP status; 0 stands for 200.
	Code int
	// Results are the body; nil sends an empty one.
	Results []Result
}

// Behaviour decides what a service answers. It must return when ctx, the context of the
// request, is done.
type Behaviour func(ctx context.Context, call *Call) Answer

// Service is an HTTP microservice on a goroutine of its own.
type Service struct {
	server *http.Server
	url    string
	done   chan error
}

// Serve starts a service that answers POST requests by b. An addr of "127.0.0.1:0" takes any
// free port. journal, unless nil, notes every call. The caller owes a call
// of [Service.Shutdown].
func Serve(ctx context.Context, addr string, b Behaviour, journal *Journal) (*Service, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen for a demo service on %s: %w", addr, err)
	}
	s := &Service{
		server: &http.Server{Handler: handler(b, journal), ReadHeaderTimeout: 10 * time.Second},
		url:    "http://" + l.Addr().String() + "/jobs",
		done:   make(chan error, 1),
	}
	go func() { s.done <- s.server.Serve(l) }()
	return s, nil
}

// URL is what goes into ROLLCALL_SERVICES.
func (s *Service) URL() string { return s.url }

// Shutdown lets running calls end until ctx is done, then cuts them, and waits for the
// server's goroutine.
func (s *Service) Shutdown(ctx context.Context) error {
	err := s.server.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.server.Close())
	}
	if served := <-s.done; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	if err != nil {
		return fmt.Errorf("shut down the demo service on %s: %w", s.url, err)
	}
	return nil
}

func handler(b Behaviour, journal *Journal) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodPost)
			http.Error(w, "post a CloudEvents batch here", http.StatusMethodNotAllowed)
			return
		}
		call, err := readCall(w, r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		answer := b(r.Context(), call)
		journal.note(call)
		writeAnswer(w, answer)
	})
}

// readCall checks more than a real service would, so that the demo and the tests notice a
// call that breaks the contract.
func readCall(w http.ResponseWriter, r *http.Request) (*Call, error) {
	if got := r.Header.Get("Content-Type"); !strings.HasPrefix(got, mediaBatch) {
		return nil, fmt.Errorf("content type %q, want %s", got, mediaBatch)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxCall))
	if err != nil {
		return nil, fmt.Errorf("read the call: %w", err)
	}
	call := &Call{Key: r.Header.Get("Idempotency-Key"), Received: time.Now()}
	if err := json.Unmarshal(body, &call.Jobs); err != nil {
		return nil, fmt.Errorf("the call is not a batch of CloudEvents: %w", err)
	}
	if call.Key == "" {
		return nil, errors.New("the call has no Idempotency-Key")
	}
	for i := range call.Jobs {
		if j := &call.Jobs[i]; j.ID == "" || j.Source == "" || j.UID == "" || j.Type == "" {
			return nil, fmt.Errorf("job %d of the call lacks one of id, source, type, rollcalluid", i)
		}
	}
	return call, nil
}

func writeAnswer(w http.ResponseWriter, a Answer) {
	code := a.Code
	if code == 0 {
		code = http.StatusOK
	}
	if a.Results == nil {
		w.WriteHeader(code)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	// A write error means that the caller has gone; it will call again.
	_ = json.NewEncoder(w).Encode(struct {
		Results []Result `json:"results"`
	}{a.Results})
}
