package faulttest

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"rollcall/internal/history"
	"rollcall/internal/jobs"
)

// Asked is one job of a request, as the service sees it.
type Asked struct {
	ID     string `json:"id"`
	Source string `json:"source"`
	UID    string `json:"rollcalluid"`
	// Attempt counts from 1.
	Attempt int             `json:"rollcallattempt"`
	Data    json.RawMessage `json:"data"`
}

// Request is one call as a service sees it.
type Request struct {
	Service string
	// Plain means a request for one job, in the format plain: it has no id and no source.
	Plain bool
	// Number counts the calls of this service, from 1.
	Number int
	Key    string
	Batch  string
	Jobs   []Asked
}

// Answer is what a service does with a request. The zero value is a 200 without a body: all ok.
type Answer struct {
	// Status of the reply, 200 if 0.
	Status int
	Header http.Header
	Body   string
	// Wait before the reply is sent.
	Wait time.Duration
	// Hang means that no reply is ever sent.
	Hang bool
}

// Recorder is a service in the test process that records every call, also those that it
// never answers.
type Recorder struct {
	Name   string
	t      testing.TB
	addr   string
	closed chan struct{}

	mu     sync.Mutex
	server *http.Server
	served chan struct{}
	answer func(Request) Answer
	count  int
	calls  []history.Call
	bodies map[string][sha256.Size]byte
	mixed  []string
}

// StartRecorder starts a service that says ok to everything until [Recorder.Answer] changes that.
func StartRecorder(t testing.TB, name string) *Recorder {
	t.Helper()
	r := &Recorder{
		Name: name, t: t, closed: make(chan struct{}),
		addr:   fmt.Sprintf("127.0.0.1:%d", FreePort(t)),
		bodies: map[string][sha256.Size]byte{},
	}
	r.Answer(func(Request) Answer { return Answer{} })
	r.Up()
	t.Cleanup(func() {
		close(r.closed)
		r.Down()
	})
	return r
}

// URL is what ROLLCALL_SERVICES needs.
func (r *Recorder) URL() string { return "http://" + r.addr + "/jobs" }

// Addr is the host and port of the service.
func (r *Recorder) Addr() string { return r.addr }

// Answer decides from now on what the service says.
func (r *Recorder) Answer(f func(Request) Answer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = f
}

// Hang makes the service take every call and answer none.
func (r *Recorder) Hang() { r.Answer(func(Request) Answer { return Answer{Hang: true} }) }

// Up starts the service again at its old address.
func (r *Recorder) Up() {
	r.t.Helper()
	listener, err := net.Listen("tcp", r.addr)
	if err != nil {
		r.t.Fatalf("start service %s: %v", r.Name, err)
	}
	server := &http.Server{Handler: http.HandlerFunc(r.serve), ReadHeaderTimeout: startLimit}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener) // ends with ErrServerClosed
	}()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.server, r.served = server, served
}

// Down stops the service: its port refuses connections, open ones are closed.
func (r *Recorder) Down() {
	r.mu.Lock()
	server, served := r.server, r.served
	r.mu.Unlock()
	_ = server.Close()
	<-served
	awaitRefusal(r.t, r.addr)
}

// Calls is every call so far, one entry for each job of it.
func (r *Recorder) Calls() []history.Call {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.calls)
}

// Count is how many calls came in so far.
func (r *Recorder) Count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.count
}

// Mixed lists idempotency keys that came with two different bodies; there must be none.
func (r *Recorder) Mixed() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.mixed)
}

func (r *Recorder) serve(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // the caller is gone; what it meant to say is unknown
	}
	call := Request{
		Service: r.Name,
		Key:     req.Header.Get("Idempotency-Key"),
		Batch:   req.Header.Get("Rollcall-Batch"),
	}
	if err := call.read(req.Header, body); err != nil {
		r.t.Errorf("service %s: a call that is neither a batch of CloudEvents nor a plain request: %v", r.Name, err)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	answer := r.record(&call, body)
	r.reply(w, req, answer)
}

// read reads the jobs of a request.
func (req *Request) read(header http.Header, body []byte) error {
	if header.Get("Content-Type") == jobs.MediaBatch {
		return json.Unmarshal(body, &req.Jobs)
	}
	attempt, err := strconv.Atoi(header.Get("Rollcall-Attempt"))
	if err != nil {
		return fmt.Errorf("read Rollcall-Attempt: %w", err)
	}
	req.Plain = true
	req.Jobs = []Asked{{UID: header.Get("Rollcall-Uid"), Attempt: attempt, Data: body}}
	return nil
}

// record writes the call down and decides what to say.
func (r *Recorder) record(call *Request, body []byte) Answer {
	now := time.Now()
	r.mu.Lock()
	r.count++
	call.Number = r.count
	for _, job := range call.Jobs {
		r.calls = append(r.calls, history.Call{
			Service: r.Name, UID: job.UID, ID: job.ID, Source: job.Source, Bare: call.Plain, Received: now,
		})
	}
	sum := sha256.Sum256(body)
	if before, seen := r.bodies[call.Key]; seen && before != sum {
		r.mixed = append(r.mixed, call.Key)
	}
	r.bodies[call.Key] = sum
	answer := r.answer
	r.mu.Unlock()
	return answer(*call)
}

func (r *Recorder) reply(w http.ResponseWriter, req *http.Request, a Answer) {
	wait := time.After(a.Wait)
	if a.Hang {
		wait = nil
	}
	select {
	case <-wait:
	case <-req.Context().Done():
		return
	case <-r.closed:
		return
	}
	for name, values := range a.Header {
		w.Header()[name] = values
	}
	if a.Status != 0 {
		w.WriteHeader(a.Status)
	}
	_, _ = io.WriteString(w, a.Body) // a caller that left needs no reply
}

// Each answers job by job: decide returns ok, retry or fail.
func Each(decide func(Asked) string) func(Request) Answer {
	return func(req Request) Answer {
		var b strings.Builder
		b.WriteString(`{"results":[`)
		for i, job := range req.Jobs {
			if i > 0 {
				b.WriteByte(',')
			}
			id, err := json.Marshal(job.ID)
			if err != nil {
				return Answer{Status: http.StatusInternalServerError}
			}
			fmt.Fprintf(&b, `{"id":%s,"status":%q}`, id, decide(job))
		}
		b.WriteString(`]}`)
		return Answer{Body: b.String()}
	}
}
