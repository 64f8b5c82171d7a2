package jobs_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rollcall/internal/jobs"
)

var specs = []jobs.Spec{{Name: "billing", Required: true}, {Name: "search", Required: true}, {Name: "stats"}}

// policy draws the largest jitter, so that delays can be compared.
func policy() jobs.Policy {
	return jobs.Policy{MaxAttempts: 3, RetryMin: time.Second, RetryMax: time.Minute, Random: func(n int64) int64 { return n - 1 }}
}

func ok() *jobs.Reply   { return &jobs.Reply{Status: jobs.StatusOK} }
func fail() *jobs.Reply { return &jobs.Reply{Status: jobs.StatusFail, Error: "no"} }
func unsent() *jobs.Reply {
	return &jobs.Reply{Status: jobs.StatusRetry, Error: "busy", Unsent: true}
}
func free() *jobs.Reply {
	return &jobs.Reply{Status: jobs.StatusRetry, Error: "busy", Free: true}
}
func skipped() *jobs.Reply {
	return &jobs.Reply{Status: jobs.StatusSkipped}
}
func whole(group int) *jobs.Reply {
	return &jobs.Reply{Status: jobs.StatusRetry, Error: "500", Group: group}
}
func retry() *jobs.Reply { return &jobs.Reply{Status: jobs.StatusRetry, Error: "busy"} }

func TestRule(t *testing.T) {
	t.Parallel()
	now := published.Add(time.Hour)
	verdict := &jobs.Verdict{Outcome: jobs.Invalid, Reason: "unreadable"}
	tests := map[string]struct {
		job     jobs.Job
		replies jobs.Replies
		want    jobs.Ruling
	}{
		"all ok":                                        {jobs.Job{}, jobs.Replies{ok(), ok(), ok()}, jobs.Ruling{Outcome: jobs.Succeeded, Attempt: 1, Burnt: true}},
		"optional fails":                                {jobs.Job{}, jobs.Replies{ok(), ok(), fail()}, jobs.Ruling{Outcome: jobs.Succeeded, Attempt: 1, Burnt: true}},
		"optional asks for a retry":                     {jobs.Job{}, jobs.Replies{ok(), ok(), retry()}, jobs.Ruling{Outcome: jobs.Succeeded, Attempt: 1, Burnt: true}},
		"required fails":                                {jobs.Job{}, jobs.Replies{ok(), fail(), ok()}, jobs.Ruling{Outcome: jobs.Failed, Attempt: 1, Burnt: true, Reason: "no", Service: "search"}},
		"fail beats retry":                              {jobs.Job{}, jobs.Replies{retry(), fail(), ok()}, jobs.Ruling{Outcome: jobs.Failed, Attempt: 1, Burnt: true, Reason: "no", Service: "search"}},
		"retry":                                         {jobs.Job{}, jobs.Replies{ok(), retry(), ok()}, jobs.Ruling{Outcome: jobs.Retrying, Attempt: 1, Burnt: true, Reason: "busy", Service: "search", OK: []string{"billing", "stats"}, Delay: time.Second}},
		"second attempt waits longer":                   {jobs.Job{Record: jobs.Record{Attempts: 1}}, jobs.Replies{ok(), retry(), ok()}, jobs.Ruling{Outcome: jobs.Retrying, Attempt: 2, Burnt: true, Reason: "busy", Service: "search", OK: []string{"billing", "stats"}, Delay: 2 * time.Second}},
		"attempts used up":                              {jobs.Job{Record: jobs.Record{Attempts: 2}}, jobs.Replies{ok(), retry(), ok()}, jobs.Ruling{Outcome: jobs.Failed, Attempt: 3, Burnt: true, Reason: "gave up after 3 attempts: busy", Service: "search"}},
		"nothing was sent":                              {jobs.Job{Record: jobs.Record{Attempts: 1}}, jobs.Replies{unsent(), unsent(), unsent()}, jobs.Ruling{Outcome: jobs.Retrying, Attempt: 1, Reason: "busy", Service: "billing", Delay: time.Second}},
		"known success, not called":                     {jobs.Job{Record: jobs.Record{Attempts: 1, OK: []string{"billing"}}}, jobs.Replies{nil, ok(), nil}, jobs.Ruling{Outcome: jobs.Succeeded, Attempt: 2, Burnt: true}},
		"past the deadline":                             {jobs.Job{Deadline: now}, jobs.Replies{ok(), retry(), ok()}, jobs.Ruling{Outcome: jobs.Expired, Attempt: 1, Burnt: true, Reason: "deadline", Service: "search"}},
		"success beats the deadline":                    {jobs.Job{Deadline: now}, jobs.Replies{ok(), ok(), ok()}, jobs.Ruling{Outcome: jobs.Succeeded, Attempt: 1, Burnt: true}},
		"delay ends at the deadline":                    {jobs.Job{Deadline: now.Add(time.Millisecond)}, jobs.Replies{retry(), ok(), ok()}, jobs.Ruling{Outcome: jobs.Retrying, Attempt: 1, Burnt: true, Reason: "busy", Service: "billing", OK: []string{"search", "stats"}, Delay: time.Millisecond}},
		"verdict":                                       {jobs.Job{Verdict: verdict}, jobs.Replies{nil, nil, nil}, jobs.Ruling{Outcome: jobs.Invalid, Reason: "unreadable"}},
		"free, in its third delivery":                   {jobs.Job{Delivery: jobs.Delivery{Delivered: 3}, Record: jobs.Record{Group: 8}}, jobs.Replies{free(), unsent(), free()}, jobs.Ruling{Outcome: jobs.Retrying, Delivered: 3, Group: 8, Reason: "busy", Service: "billing", Delay: 4 * time.Second}},
		"free beside a success":                         {jobs.Job{Record: jobs.Record{Attempts: 4}}, jobs.Replies{free(), ok(), free()}, jobs.Ruling{Outcome: jobs.Retrying, Attempt: 5, Burnt: true, Reason: "busy", Service: "billing", OK: []string{"search"}, Delay: 16 * time.Second}},
		"skipped by a required service":                 {jobs.Job{}, jobs.Replies{ok(), skipped(), skipped()}, jobs.Ruling{Outcome: jobs.Succeeded, Attempt: 1, Burnt: true}},
		"a call that failed as a whole":                 {jobs.Job{}, jobs.Replies{whole(48), ok(), whole(12)}, jobs.Ruling{Outcome: jobs.Retrying, Attempt: 1, Burnt: true, Group: 12, Reason: "500", Service: "billing", OK: []string{"search"}, Delay: time.Second}},
		"a trial call that failed as a whole":           {jobs.Job{Record: jobs.Record{Group: 8}}, jobs.Replies{{Status: jobs.StatusRetry, Error: "500", Free: true, Group: 4}, unsent(), unsent()}, jobs.Ruling{Outcome: jobs.Retrying, Group: 4, Reason: "500", Service: "billing", Delay: time.Second}},
		"an id shared within the call":                  {jobs.Job{}, jobs.Replies{{Status: jobs.StatusRetry, Error: "busy", Alone: true}, whole(48), ok()}, jobs.Ruling{Outcome: jobs.Retrying, Attempt: 1, Burnt: true, Group: 1, Reason: "busy", Service: "billing", OK: []string{"stats"}, Delay: time.Second}},
		"an answer about the job frees it of its group": {jobs.Job{Record: jobs.Record{Group: 3}}, jobs.Replies{retry(), ok(), ok()}, jobs.Ruling{Outcome: jobs.Retrying, Attempt: 1, Burnt: true, Reason: "busy", Service: "billing", OK: []string{"search", "stats"}, Delay: time.Second}},
		"retry after":                                   {jobs.Job{}, jobs.Replies{{Status: jobs.StatusRetry, RetryAfter: 5 * time.Second}, ok(), ok()}, jobs.Ruling{Outcome: jobs.Retrying, Attempt: 1, Burnt: true, Reason: "the service asked for a retry", Service: "billing", OK: []string{"search", "stats"}, Delay: 5 * time.Second}},
		"absurd retry after":                            {jobs.Job{}, jobs.Replies{{Status: jobs.StatusRetry, RetryAfter: time.Hour}, ok(), ok()}, jobs.Ruling{Outcome: jobs.Retrying, Attempt: 1, Burnt: true, Reason: "the service asked for a retry", Service: "billing", OK: []string{"search", "stats"}, Delay: time.Minute}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := policy().Rule(&tt.job, specs, tt.replies, now)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("ruling (-want +got):\n%s", diff)
			}
		})
	}
}

func TestOnceFailsWhatCannotComeBack(t *testing.T) {
	t.Parallel()
	p := policy()
	p.AtMostOnce = true
	if got := p.Rule(&jobs.Job{}, specs, jobs.Replies{ok(), retry(), nil}, published); got.Outcome != jobs.Failed || got.Reason != "busy" {
		t.Errorf("ruling %+v", got)
	}
}

func TestBackOffGrowsToItsCapAndJitters(t *testing.T) {
	t.Parallel()
	p := policy()
	p.MaxAttempts = 1 << 40
	for attempts, want := range map[int]time.Duration{0: time.Second, 4: 16 * time.Second, 6: time.Minute, 500: time.Minute} {
		j := jobs.Job{Record: jobs.Record{Attempts: attempts}}
		if got := p.Rule(&j, specs, jobs.Replies{retry(), nil, nil}, published); got.Delay != want {
			t.Errorf("after %d attempts: %s, want %s", attempts, got.Delay, want)
		}
	}
	p.Random = func(int64) int64 { return 0 }
	if got := p.Rule(&jobs.Job{}, specs, jobs.Replies{retry(), nil, nil}, published); got.Delay != 0 {
		t.Errorf("full jitter reaches down to 0, got %s", got.Delay)
	}
}

func TestRecordAddsUp(t *testing.T) {
	t.Parallel()
	r := jobs.Record{Attempts: 1, Seen: 9, Since: 1, Lone: 2, Group: 4, OK: []string{"search"}}
	next := r.Apply(&jobs.Ruling{Outcome: jobs.Retrying, Burnt: true, Delivered: 3, OK: []string{"billing", "search"}})
	want := jobs.Record{Attempts: 2, Seen: 3, Since: 3, OK: []string{"billing", "search"}}
	if diff := cmp.Diff(want, next); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
	if len(r.OK) != 1 {
		t.Errorf("the receiver changed: %+v", r)
	}
	if unburnt := r.Apply(&jobs.Ruling{Outcome: jobs.Retrying, Delivered: 3, Group: 2}); unburnt.Attempts != 1 || unburnt.Seen != 3 || unburnt.Group != 2 {
		t.Errorf("a run in which nothing was sent: %+v", unburnt)
	}
	if final := next.Apply(&jobs.Ruling{Outcome: jobs.Failed}); !final.Final {
		t.Errorf("final: %+v", final)
	}
	if !(jobs.Record{}).Suspect(3) || (jobs.Record{Seen: 1}).Suspect(3) {
		t.Error("a job is suspect from the third delivery without a recorded end")
	}
}

// A job that waits for a service must not become suspect by it, and an hour of that, with a delivery
// every few minutes, must not cost a write each time.
func TestWaitingForAServiceCostsFewWritesAndNoSuspicion(t *testing.T) {
	t.Parallel()
	r := jobs.Record{}
	writes := 0
	for delivered := 1; delivered <= 40; delivered++ {
		if r.Suspect(delivered) {
			t.Fatalf("suspect at delivery %d", delivered)
		}
		if waits := r.Waits(delivered); waits != delivered {
			t.Errorf("%d waits at delivery %d", waits, delivered)
		}
		if seen, due := r.Credit(delivered); due {
			writes++
			r = jobs.Mark{Seen: seen}.Apply(r)
		}
	}
	if writes > 6 {
		t.Errorf("%d writes in 40 deliveries", writes)
	}
	r = r.Apply(&jobs.Ruling{Outcome: jobs.Retrying, Delivered: 41})
	if !r.Suspect(44) || r.Waits(42) != 1 {
		t.Errorf("what was accounted for in advance outlives the outage: %+v", r)
	}
}

func TestMarksReplaceWhatARunChanges(t *testing.T) {
	t.Parallel()
	r := jobs.Record{Attempts: 2, Seen: 3, Since: 3, OK: []string{"a"}}
	begun := jobs.Mark{Lone: 1, Group: 1}.Apply(r)
	if diff := cmp.Diff(jobs.Record{Attempts: 2, Seen: 3, Since: 3, Lone: 1, Group: 1, OK: []string{"a"}}, begun); diff != "" {
		t.Errorf("begun (-want +got):\n%s", diff)
	}
	ended := jobs.Mark{Seen: 6}.Apply(begun)
	if diff := cmp.Diff(jobs.Record{Attempts: 2, Seen: 6, Since: 3, OK: []string{"a"}}, ended); diff != "" {
		t.Errorf("ended (-want +got):\n%s", diff)
	}
}

// settlement has one job of each outcome.
func settlement() *jobs.Settlement {
	batch := &jobs.Batch{ID: "0198c5a0", Pool: "default", Replica: "r1", Seal: jobs.SealSize, SealedAt: published.Add(-5 * time.Minute)} // by another clock
	s := &jobs.Settlement{
		Batch: batch, SettledAt: published.Add(42100 * time.Microsecond), Took: 42100 * time.Microsecond,
		Services: []jobs.ServiceReport{
			{Name: "billing", Required: true, OK: 1, Retry: 1, Fail: 1, Tries: 2, Duration: jobs.Millis(40200 * time.Microsecond)},
			{Name: "search", Required: true, OK: 3, Tries: 1, Duration: jobs.Millis(time.Millisecond)},
		},
		Rulings: []jobs.Ruling{
			{Outcome: jobs.Succeeded, Attempt: 2},
			{Outcome: jobs.Failed, Attempt: 1, Reason: `no "account"`, Service: "billing"},
			{Outcome: jobs.Retrying, Attempt: 1, Reason: "busy"},
		},
		Replies: []jobs.Replies{
			{{Status: jobs.StatusOK, Data: json.RawMessage(`{"invoice": 9}`)}, nil},
			{fail(), ok()},
			{retry(), ok()},
		},
	}
	for seq := range uint64(3) {
		var header map[string][]string
		if seq == 1 {
			header = map[string][]string{"rollcall-replay-of": {"abc.9"}}
		}
		d := delivered("1", header)
		d.Ref.Seq = seq + 1
		j := jobs.Decode(d, 0)
		batch.Jobs = append(batch.Jobs, &j)
	}
	batch.Jobs[0].Record.OK = []string{"search"}
	return s
}

func TestEventSaysWhatBecameOfEveryJob(t *testing.T) {
	t.Parallel()
	s := settlement()
	s.EncodeEvent(1 << 20)
	got, err := jobs.DecodeEvent(s.Event)
	if err != nil {
		t.Fatalf("%v\n%s", err, s.Event)
	}
	age := int64(42)
	want := jobs.Event{
		SpecVersion: "1.0", ID: "0198c5a0", Source: "/rollcall/default", Type: jobs.EventType, Subject: "partial", Time: s.SettledAt,
		Data: jobs.EventData{
			BatchID: "0198c5a0", Pool: "default", Replica: "r1", Outcome: jobs.BatchPartial, Seal: jobs.SealSize,
			SealedAt: published, SettledAt: s.SettledAt, DurationMS: 42.1,
			Counts: jobs.Counts{Total: 3, Succeeded: 1, Failed: 1, Retrying: 1},
			Services: []jobs.ServiceReport{
				{Name: "billing", Required: true, OK: 1, Retry: 1, Fail: 1, Tries: 2, Duration: jobs.Millis(40200 * time.Microsecond)},
				{Name: "search", Required: true, OK: 3, Tries: 1, Duration: jobs.Millis(time.Millisecond)},
			},
			Jobs: []jobs.EventJob{
				{ID: "abc.1", UID: "abc.1", Subject: "jobs.mail", Outcome: "succeeded", Attempt: 2, AgeMS: &age, Services: map[string]string{"billing": "ok", "search": "ok"}, Data: map[string]json.RawMessage{"billing": json.RawMessage(`{"invoice": 9}`)}},
				{ID: "abc.2", UID: "abc.2", Subject: "jobs.mail", Outcome: "failed", Attempt: 1, AgeMS: &age, ReplayOf: "abc.9", Reason: `no "account"`, Services: map[string]string{"billing": "fail", "search": "ok"}},
				{ID: "abc.3", UID: "abc.3", Subject: "jobs.mail", Outcome: "retrying", Attempt: 1, AgeMS: &age, Reason: "busy", Services: map[string]string{"billing": "retry", "search": "ok"}},
			},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("event (-want +got):\n%s", diff)
	}
}

func TestEventIsCutDataFirstCountsAndUIDsNever(t *testing.T) {
	t.Parallel()
	full := settlement()
	full.Replies[0][0].Data = json.RawMessage(`"` + strings.Repeat("x", 5000) + `"`)
	full.EncodeEvent(1 << 20)
	for _, limit := range []int{len(full.Event), len(full.Event) - 1, 1100, 1} {
		s := settlement()
		s.Replies[0][0].Data = full.Replies[0][0].Data
		s.EncodeEvent(limit)
		e, err := jobs.DecodeEvent(s.Event)
		if err != nil {
			t.Fatalf("limit %d: %v", limit, err)
		}
		if len(s.Event) > limit && limit > 1 {
			t.Errorf("limit %d: %d bytes", limit, len(s.Event))
		}
		if cut := limit < len(full.Event); e.Data.Truncated != cut || (e.Data.Jobs[0].Data == nil) != cut {
			t.Errorf("limit %d: truncated %v", limit, e.Data.Truncated)
		}
		if e.Data.Counts.Total != 3 || e.Data.Jobs[2].UID != "abc.3" {
			t.Errorf("limit %d: counts or uids are gone", limit)
		}
	}
}

func TestALongKeyDoesNotKeepAnEventFromFitting(t *testing.T) {
	t.Parallel()
	s := settlement()
	s.Batch.Key = strings.Repeat("kö", 2000)
	s.EncodeEvent(2000)
	e, err := jobs.DecodeEvent(s.Event)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Event) > 2000 || !e.Data.Truncated || len(e.Data.Key) < 250 || !strings.HasPrefix(s.Batch.Key, e.Data.Key) || e.Data.Jobs[0].ID == "" {
		t.Errorf("%d bytes, key %q", len(s.Event), e.Data.Key)
	}
}

func TestBatchOutcome(t *testing.T) {
	t.Parallel()
	for want, c := range map[jobs.BatchOutcome][]jobs.Counts{
		jobs.BatchSucceeded: {{Total: 2, Succeeded: 2}},
		jobs.BatchFailed:    {{Total: 2, Failed: 1, Expired: 1}, {Total: 1, Invalid: 1}},
		jobs.BatchPartial:   {{Total: 2, Succeeded: 1, Failed: 1}, {Total: 1, Retrying: 1}, {Total: 2, Failed: 1, Retrying: 1}},
	} {
		for _, counts := range c {
			if got := counts.Outcome(); got != want {
				t.Errorf("%+v: %s, want %s", counts, got, want)
			}
		}
	}
}

func TestACancelledJobIsCountedAndHasNoDeadLetter(t *testing.T) {
	t.Parallel()
	if jobs.Cancelled.Dead() || !jobs.Cancelled.Final() {
		t.Error("cancelled: want final, and no dead letter")
	}
	s := settlement()
	s.Rulings[0] = jobs.Ruling{Outcome: jobs.Cancelled}
	s.EncodeEvent(1 << 20)
	e, err := jobs.DecodeEvent(s.Event)
	if err != nil {
		t.Fatal(err)
	}
	if e.Data.Counts.Cancelled != 1 || e.Data.Jobs[0].Outcome != jobs.Cancelled {
		t.Errorf("counts %+v, job %+v", e.Data.Counts, e.Data.Jobs[0])
	}
}

func TestWithoutLeavesTheRest(t *testing.T) {
	t.Parallel()
	s := settlement()
	rest, dropped := s.Without([]bool{false, true, false})
	rest.EncodeEvent(1 << 20)
	e, err := jobs.DecodeEvent(rest.Event)
	if err != nil {
		t.Fatal(err)
	}
	if len(dropped) != 1 || dropped[0].UID != "abc.2" || e.Data.Counts.Total != 2 || e.Data.Jobs[1].UID != "abc.3" {
		t.Errorf("dropped %v, left %+v", dropped, e.Data)
	}
	if len(s.Batch.Jobs) != 3 {
		t.Error("the settlement itself changed")
	}
}

func TestConflictErrorCounts(t *testing.T) {
	t.Parallel()
	var err error = &jobs.ConflictError{Final: []bool{true, false, true}}
	var conflict *jobs.ConflictError
	if !errors.As(err, &conflict) || err.Error() != "commit refused: 2 of 3 jobs are already final" {
		t.Errorf("%v", err)
	}
}
