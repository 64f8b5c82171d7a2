package devkit

import (
	"context"
	"encoding/binary"
	"hash/fnv"
	"net/http"
	"sync"
	"time"
)

// The words of the results dialect.
const (
	statusOK    = "ok"
	statusRetry = "retry"
	statusFail  = "fail"
)

// Fast says ok to every job at once.
func Fast() Behaviour {
	return func(_ context.Context, call *Call) Answer { return allOK(call) }
}

// Steady says ok to every job after a delay.
func Steady(delay time.Duration) Behaviour {
	return func(ctx context.Context, call *Call) Answer {
		t := time.NewTimer(delay)
		defer t.Stop()
		select {
		case <-t.C:
			return allOK(call)
		case <-ctx.Done():
			return Answer{Code: http.StatusServiceUnavailable}
		}
	}
}

func allOK(call *Call) Answer {
	results := make([]Result, len(call.Jobs))
	for i := range call.Jobs {
		results[i] = Result{ID: call.Jobs[i].ID, Status: statusOK}
	}
	return Answer{Results: results}
}

// How often the flaky service misbehaves.
const (
	// perMille is what the shares below are parts of.
	perMille = 1000
	// failing jobs, per mille: they are refused for good.
	failing = 10
	// busy jobs, per mille: they are put off once or twice.
	busy = 50
	// errorEvery so many calls one is answered 500.
	errorEvery = 16
)

// Flaky is a service in trouble: it refuses a few jobs for good, puts some off once or twice,
// and answers every 16th call with a plain 500. The outcome of a job depends on the seed, on
// its id and on how often it was put off before, so that the numbers of a demo are known in
// advance.
type Flaky struct {
	seed uint64
	mu   sync.Mutex
	// calls received so far.
	calls int
	// putOff counts the `retry` answers by source and id. An entry goes with the job's ok,
	// so the map holds the jobs that are waiting for another attempt.
	putOff map[[2]string]int
}

// NewFlaky returns a flaky service. Equal seeds treat equal job ids alike.
func NewFlaky(seed uint64) *Flaky { return &Flaky{seed: seed, putOff: make(map[[2]string]int)} }

// Answer is the service's [Behaviour].
func (f *Flaky) Answer(_ context.Context, call *Call) Answer {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	if f.calls%errorEvery == 0 {
		return Answer{Code: http.StatusInternalServerError}
	}
	results := make([]Result, len(call.Jobs))
	for i := range call.Jobs {
		results[i] = f.result(&call.Jobs[i])
	}
	return Answer{Results: results}
}

func (f *Flaky) result(j *Job) Result {
	if f.Refuses(j.ID) {
		return Result{ID: j.ID, Status: statusFail, Error: "card declined"}
	}
	name := [2]string{j.Source, j.ID}
	if f.putOff[name] < f.PutsOff(j.ID) {
		f.putOff[name]++
		return Result{ID: j.ID, Status: statusRetry, Error: "account locked, come back"}
	}
	delete(f.putOff, name)
	return Result{ID: j.ID, Status: statusOK}
}

// Refuses reports whether the job of this id always fails.
func (f *Flaky) Refuses(id string) bool { return f.draw(id)%perMille < failing }

// PutsOff returns how many times the job of this id is answered `retry` before its ok.
func (f *Flaky) PutsOff(id string) int {
	n := f.draw(id)
	if lot := n % perMille; lot < failing || lot >= failing+busy {
		return 0
	}
	return 1 + int(n/perMille%2)
}

// draw is the job's lot: a hash whose low digits are as good as its high ones.
func (f *Flaky) draw(id string) uint64 {
	h := fnv.New64a()
	var seed [8]byte
	binary.LittleEndian.PutUint64(seed[:], f.seed)
	_, _ = h.Write(seed[:])
	_, _ = h.Write([]byte(id))
	// The finalizer of splitmix64; FNV alone spreads similar ids poorly.
	x := h.Sum64()
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
