package pool_test

import (
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"rollcall/internal/jobs"
	"rollcall/internal/pool"
)

func newTestBatcher(limits pool.Limits, key string) *pool.Batcher {
	var k pool.Key
	if err := k.UnmarshalText([]byte(key)); err != nil {
		panic(err)
	}
	return pool.NewBatcher(limits, k, func(members []*jobs.Job, key string, why jobs.Seal, now time.Time) *jobs.Batch {
		return &jobs.Batch{Jobs: members, Key: key, Seal: why, SealedAt: now}
	})
}

func job(subject, body string) *jobs.Job {
	j := jobs.Decode(jobs.Delivery{Subject: subject, Data: []byte(body), Ref: ref(1)}, 0)
	return &j
}

// shape is what a test compares of a batch.
type shape struct {
	Seal jobs.Seal
	Key  string
	Jobs int
}

func shapes(batches []*jobs.Batch) (out []shape) {
	for _, b := range batches {
		out = append(out, shape{b.Seal, b.Key, len(b.Jobs)})
	}
	return out
}

func TestBatcherSealsByTheFirstLimitReached(t *testing.T) {
	t.Parallel()
	start := time.Unix(0, 0)
	wide := pool.Limits{Jobs: 100, Bytes: 1000, Weight: fixed(1 << 20), Messages: 1000, Linger: time.Second}
	tests := map[string]struct {
		limits pool.Limits
		key    string
		run    func(b *pool.Batcher) []*jobs.Batch
		want   []shape
	}{
		"size": {pool.Limits{Jobs: 2, Bytes: 1000, Weight: fixed(1 << 20), Messages: 1000, Linger: time.Second}, "", func(b *pool.Batcher) []*jobs.Batch {
			return append(b.Add(job("a", "1"), start), b.Add(job("a", "2"), start)...)
		}, []shape{{jobs.SealSize, "", 2}}},
		"bytes, exactly full": {wide, "", func(b *pool.Batcher) []*jobs.Batch {
			return append(b.Add(job("a", strings.Repeat("x", 500)), start), b.Add(job("a", strings.Repeat("x", 500)), start)...)
		}, []shape{{jobs.SealBytes, "", 2}}},
		"bytes, the next does not fit": {wide, "", func(b *pool.Batcher) []*jobs.Batch {
			return append(b.Add(job("a", strings.Repeat("x", 600)), start), b.Add(job("a", strings.Repeat("x", 600)), start)...)
		}, []shape{{jobs.SealBytes, "", 1}}},
		"bytes, one too large alone": {wide, "", func(b *pool.Batcher) []*jobs.Batch {
			return append(b.Add(job("a", "1"), start), b.Add(job("a", strings.Repeat("x", 5000)), start)...)
		}, []shape{{jobs.SealBytes, "", 1}, {jobs.SealBytes, "", 1}}},
		"bytes, ids and subjects": {pool.Limits{Jobs: 100, Bytes: 1000, Weight: fixed(400), Messages: 1000, Linger: time.Second}, "", func(b *pool.Batcher) []*jobs.Batch {
			return append(b.Add(job(strings.Repeat("s", 200), "1"), start), b.Add(job(strings.Repeat("s", 200), "1"), start)...)
		}, []shape{{jobs.SealBytes, "", 1}}},
		"linger, since the first job": {wide, "", func(b *pool.Batcher) []*jobs.Batch {
			b.Add(job("a", "1"), start)
			b.Add(job("a", "2"), start.Add(900*time.Millisecond))
			return append(b.Due(9, start.Add(999*time.Millisecond)), b.Due(9, start.Add(time.Second))...)
		}, []shape{{jobs.SealLinger, "", 2}}},
		"linger, no more than can be sent": {wide, "subject", func(b *pool.Batcher) []*jobs.Batch {
			b.Add(job("a", "1"), start)
			b.Add(job("b", "1"), start)
			return append(b.Due(1, start.Add(time.Second)), b.Due(0, start.Add(time.Hour))...)
		}, []shape{{jobs.SealLinger, "a", 1}}},
		"idle": {pool.Limits{Jobs: 100, Bytes: 1000, Weight: fixed(1 << 20), Messages: 1000}, "", func(b *pool.Batcher) []*jobs.Batch {
			b.Add(job("a", "1"), start)
			return append(b.Due(9, start.Add(time.Hour)), b.Idle(5, start)...)
		}, []shape{{jobs.SealIdle, "", 1}}},
		"no idle while a linger is set": {wide, "", func(b *pool.Batcher) []*jobs.Batch {
			b.Add(job("a", "1"), start)
			return b.Idle(5, start)
		}, nil},
		"drain, oldest first": {wide, "subject", func(b *pool.Batcher) []*jobs.Batch {
			b.Add(job("b", "1"), start)
			b.Add(job("a", "1"), start)
			b.Add(job("b", "2"), start)
			return b.Drain(start)
		}, []shape{{jobs.SealDrain, "b", 2}, {jobs.SealDrain, "a", 1}}},
		"one key per batch": {pool.Limits{Jobs: 2, Bytes: 1000, Weight: fixed(1 << 20), Messages: 1000, Linger: time.Second}, "subject", func(b *pool.Batcher) []*jobs.Batch {
			b.Add(job("a", "1"), start)
			b.Add(job("b", "1"), start)
			return append(b.Add(job("a", "2"), start), b.Due(9, start.Add(time.Second))...)
		}, []shape{{jobs.SealSize, "a", 2}, {jobs.SealLinger, "b", 1}}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, shapes(tt.run(newTestBatcher(tt.limits, tt.key)))); diff != "" {
				t.Errorf("sealed (-want +got):\n%s", diff)
			}
		})
	}
}

func TestKeyReadsHeadersWithoutRegardToCase(t *testing.T) {
	t.Parallel()
	var key pool.Key
	if err := key.UnmarshalText([]byte("header:Tenant-Id")); err != nil {
		t.Fatal(err)
	}
	j := jobs.Decode(jobs.Delivery{Header: map[string][]string{"tenant-id": {"acme"}}}, 0)
	if got := key.Of(&j); got != "acme" {
		t.Errorf("key is %q, want acme", got)
	}
}

// TestBatcherLosesAndDoublesNothing adds jobs at random times under random limits: every job
// comes out in exactly one batch, in order within its key, no batch exceeds a limit or mixes
// keys, and no job waits longer than the linger.
func TestBatcherLosesAndDoublesNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		limits := pool.Limits{
			Jobs: rapid.IntRange(1, 5).Draw(t, "jobs"), Bytes: int64(rapid.IntRange(1, 60).Draw(t, "bytes")),
			Weight: fixed(1 << 20), Messages: 1000, Linger: time.Duration(rapid.IntRange(0, 3).Draw(t, "linger")) * time.Second,
		}
		b := newTestBatcher(limits, "subject")
		now := time.Unix(0, 0)
		added, out := map[*jobs.Job]time.Time{}, map[*jobs.Job]bool{}
		take := func(batches []*jobs.Batch) {
			for _, batch := range batches {
				bytes := 0
				for _, j := range batch.Jobs {
					if out[j] {
						t.Fatalf("a job came out twice")
					}
					out[j] = true
					bytes += len(j.Body)
					if j.Subject != batch.Key {
						t.Fatalf("a job of %s in a batch of %s", j.Subject, batch.Key)
					}
					if waited := now.Sub(added[j]); limits.Linger > 0 && waited > limits.Linger+time.Second {
						t.Fatalf("a job waited %s under a linger of %s", waited, limits.Linger)
					}
				}
				if len(batch.Jobs) == 0 || len(batch.Jobs) > limits.Jobs || (int64(bytes) > limits.Bytes && len(batch.Jobs) > 1) {
					t.Fatalf("a batch of %d jobs and %d bytes under %+v", len(batch.Jobs), bytes, limits)
				}
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				j := job(rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "subject"), strings.Repeat("x", rapid.IntRange(0, 70).Draw(t, "size")))
				added[j] = now
				take(b.Add(j, now))
			},
			"a second passes": func(*rapid.T) {
				now = now.Add(time.Second)
				take(b.Due(3, now)) // one for each subject
			},
			"idle": func(*rapid.T) { take(b.Idle(1, now)) },
		})
		take(b.Drain(now))
		if len(out) != len(added) {
			t.Fatalf("%d jobs went in, %d came out", len(added), len(out))
		}
	})
}

// fixed is a bound that stays as it is.
func fixed(n int) func() int { return func() int { return n } }

// It measures what the process allocates, so it cannot run beside other tests.
func TestABatchOfFewJobsTakesNoRoomForMany(t *testing.T) { //nolint:paralleltest // see above
	const keys = 10_000
	now := time.Unix(0, 0)
	limits := pool.Limits{Jobs: 900, Bytes: 1 << 20, Weight: func() int { return 1 << 20 }, Messages: 1000, Linger: time.Hour}
	b := newTestBatcher(limits, "subject")
	members := make([]*jobs.Job, keys)
	for i := range members {
		members[i] = job("jobs."+strconv.Itoa(i), "x")
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, j := range members {
		b.Add(j, now)
	}
	runtime.ReadMemStats(&after)
	const most = 1 << 10 // bytes; room for 900 jobs would be seven times as much
	if each := (after.TotalAlloc - before.TotalAlloc) / keys; each > most {
		t.Errorf("an open batch of one job takes %d bytes, want at most %d", each, most)
	}
	for i, batch := range b.Drain(now) {
		if batch.Jobs[0] != members[i] {
			t.Fatalf("batch %d is of another job: drained out of order", i)
		}
	}
}
