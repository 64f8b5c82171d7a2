package service

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"rollcall/internal/jobs"
)

// Grade is how good a reply in a conformance check is.
type Grade string

// Good: as it should be. Doubtful: it works, at a cost that the advice names. Wrong: a pool could
// not work with the service, or would lose jobs to it.
const (
	Good     Grade = "ok"
	Doubtful Grade = "warning"
	Wrong    Grade = "error"
)

// Finding is one request of a conformance check, and what became of it.
type Finding struct {
	Check string `json:"check"`
	Grade Grade  `json:"health"`
	// Sent says what the request was, Said what the service answered.
	Sent string `json:"sent"`
	Said string `json:"said"`
	// Read says what a pool makes of such a reply.
	Read string `json:"read"`
	// Advice says what fixes it, or what has to be known; often empty.
	Advice string `json:"advice,omitempty"`
}

// Sample is the job that a service is checked with, and the batches of the pool.
type Sample struct {
	// Subject may be empty: then one is used that the service takes.
	Subject string
	Header  map[string][]string
	Data    []byte
	// BatchSize and BatchBytes bound a batch of the pool in jobs and bytes.
	BatchSize  int
	BatchBytes jobs.Size
}

// ErrSample is returned for a sample job that Rollcall itself would not send to a service.
var ErrSample = errors.New("the sample job cannot be used")

// Check sends a service the requests that a pool sends on good days and on bad ones, and says how
// it would read each reply: by the decoder that a pool has, without its repetitions and its
// breaker. The jobs are real to the service; their ids begin with "check-". Where the first answers
// show that no pool could work with the service, the rest is not sent.
func (r Ref) Check(ctx context.Context, cfg Config, deps Deps, sample Sample) ([]Finding, error) {
	s, err := New(r.Name, r.URL, cfg, deps)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	c := &conformance{ref: r, cfg: cfg, deps: deps, sample: sample, service: s, run: strconv.FormatInt(time.Now().UnixNano(), 36)}
	if c.sample.Subject == "" {
		c.sample.Subject = s.anySubject()
	}
	if !s.Takes(c.sample.Subject) {
		return nil, fmt.Errorf("%w: %s does not cover its subject %s, so no pool would send it", ErrSample, Variable(r.Name, "SUBJECTS"), c.sample.Subject)
	}
	if v := c.job("sample", sample.Data).Verdict; v != nil {
		return nil, fmt.Errorf("%w: %s", ErrSample, v.Reason)
	}
	c.all(ctx)
	return c.findings, ctx.Err()
}

// anySubject returns a subject that the service takes.
func (s *Service) anySubject() string {
	if len(s.cfg.Subjects) == 0 {
		return "jobs.check"
	}
	return strings.NewReplacer("*", "check", ">", "check").Replace(s.cfg.Subjects[0])
}

// conformance is one run.
type conformance struct {
	ref     Ref
	cfg     Config
	deps    Deps
	sample  Sample
	service *Service
	// run keeps the ids of one run apart from those of others. It stands for the stream's epoch.
	run string
	seq uint64
	// usual is what the service says to the sample.
	usual    answered
	slowest  time.Duration
	findings []Finding
}

// answered is a request with what became of it.
type answered struct {
	call    *jobs.Call
	replies []jobs.Reply
	failure *jobs.Failure
	answer  answer
	took    time.Duration
}

// job returns a job of the run. Its id is that of the run and the given one.
func (c *conformance) job(id string, data []byte) *jobs.Job {
	c.seq++
	header := map[string][]string{}
	named := jobs.HeaderMsgID
	for name, values := range c.sample.Header {
		switch lower := strings.ToLower(name); {
		case lower == "ce-id":
			named = lower
		case lower != strings.ToLower(jobs.HeaderMsgID):
			header[name] = values
		}
	}
	header[named] = []string{"check-" + c.run + "-" + id}
	now := time.Now()
	j := jobs.Decode(jobs.Delivery{
		Subject: c.sample.Subject, Header: header, Data: data, Source: "/rollcall/check/" + c.run,
		Ref: jobs.Ref{Epoch: c.run, Seq: c.seq}, Delivered: 1, Published: now, Received: now,
	}, 0)
	return &j
}

// most is how many jobs a request of the pool may carry.
func (c *conformance) most() int {
	if !c.service.Batched() {
		return 1
	}
	return max(c.sample.BatchSize, 1)
}

// jobs returns a job for each id, each like the sample, as many as one request may carry.
func (c *conformance) jobs(ids ...string) []*jobs.Job {
	ids = ids[:min(len(ids), c.most())]
	list := make([]*jobs.Job, len(ids))
	for i, id := range ids {
		list[i] = c.job(id, c.sample.Data)
	}
	return list
}

// call returns a request for jobs, in a batch of their own.
func (c *conformance) call(list ...*jobs.Job) *jobs.Call {
	batch := &jobs.Batch{ID: uuid.Must(uuid.NewV7()).String(), Pool: "check", Jobs: list}
	call := &jobs.Call{BatchID: batch.ID, Pool: batch.Pool, Service: c.ref.Name, Jobs: list}
	if c.service.Batched() {
		call.Key, call.Body = jobs.CallKey(batch, c.ref.Name, list), jobs.AppendCall(nil, list)
	} else {
		call.Key, call.Body = list[0].JobKey(c.ref.Name), list[0].Body
	}
	return call
}

// ask sends a request to the service within its time-out.
func (c *conformance) ask(ctx context.Context, call *jobs.Call) answered {
	a := c.askBy(ctx, c.service, call, c.cfg.Timeout, 0)
	c.slowest = max(c.slowest, a.took)
	return a
}

// askBy sends a request by a service with settings of its own. age is how old its signature is.
func (c *conformance) askBy(ctx context.Context, s *Service, call *jobs.Call, within, age time.Duration) (a answered) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	a.call = call
	r, failure := s.transport.prepare(call)
	if failure != nil {
		a.failure = failure
		return a
	}
	r.answer, r.age = &a.answer, age
	start := time.Now()
	a.replies, a.failure = s.attempt(ctx, cancel, r)
	a.took = time.Since(start)
	if f := a.failure; f != nil && ctx.Err() != nil && f.Code == 0 && f.Reason == jobs.ReasonTimeout {
		f.Err = s.policies.tooSlow(f.Err)
	}
	return a
}

// note adds a finding about a reply.
func (c *conformance) note(check, sent string, a answered, g Grade, advice string) {
	c.findings = append(c.findings, Finding{Check: check, Grade: g, Sent: sent, Said: c.said(a), Read: c.read(a), Advice: advice})
}

// statuses are what a service says of each job: fail where the whole request is at fault.
func (a *answered) statuses() []jobs.Status {
	out := make([]jobs.Status, len(a.call.Jobs))
	for i := range out {
		switch {
		case a.failure == nil:
			out[i] = a.replies[i].Status
		case a.failure.Final:
			out[i] = jobs.StatusFail
		}
	}
	return out
}

// allOK reports whether the service said ok to every job.
func (a *answered) allOK() bool {
	return a.failure == nil && !slices.ContainsFunc(a.replies, func(r jobs.Reply) bool { return r.Status != jobs.StatusOK })
}

// asUsual reports whether the service says of every job what it says of the sample.
func (c *conformance) asUsual(a answered) bool {
	usual := c.usual.statuses()[0]
	return !slices.ContainsFunc(a.statuses(), func(s jobs.Status) bool { return s != usual }) &&
		(a.failure == nil || a.failure.Final)
}
