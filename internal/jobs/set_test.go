package jobs_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rollcall/internal/jobs"
)

var setStart = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

// member is the n-th job of a set, published n seconds after its start.
func member(n, size int) *jobs.Job {
	ref := jobs.Ref{Epoch: "e", Seq: uint64(n)}
	return &jobs.Job{
		Delivery: jobs.Delivery{Ref: ref, UID: ref.UID(), Published: setStart.Add(time.Duration(n) * time.Second)},
		ID:       fmt.Sprintf("row-%d", n), Set: "import-7", SetSize: size,
	}
}

func ended(o jobs.Outcome) *jobs.Ruling { return &jobs.Ruling{Outcome: o, Reason: "because"} }

func TestSetTally_CountsEveryOutcome(t *testing.T) {
	t.Parallel()
	var tally jobs.SetTally
	for i, o := range []jobs.Outcome{jobs.Succeeded, jobs.Failed, jobs.Expired, jobs.Invalid, jobs.Cancelled} {
		tally = tally.Add(member(i+1, 0), ended(o))
	}
	want := jobs.SetCounts{Total: 5, Succeeded: 1, Failed: 1, Expired: 1, Invalid: 1, Cancelled: 1}
	if diff := cmp.Diff(want, tally.Counts); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	if tally.Complete() {
		t.Error("a set whose size nobody declared is complete")
	}
	if len(tally.Failed) != 4 || tally.Failed[0].ID != "row-2" || tally.Failed[0].Reason != "because" {
		t.Errorf("listed: %+v", tally.Failed)
	}
}

func TestSetTally_TheLargestSizeCounts(t *testing.T) {
	t.Parallel()
	tally := jobs.SetTally{}.Add(member(1, 3), ended(jobs.Succeeded)).Add(member(2, 2), ended(jobs.Succeeded))
	if tally.Size != 3 || tally.Complete() {
		t.Fatalf("size %d, complete %t; want 3 and not complete", tally.Size, tally.Complete())
	}
	if tally = tally.Merge(jobs.SetTally{}.Add(member(3, 0), ended(jobs.Succeeded))); !tally.Complete() {
		t.Errorf("three of three members ended: %+v", tally)
	}
}

func TestSetTally_AnAddLeavesOtherCopiesAlone(t *testing.T) {
	t.Parallel()
	base := jobs.SetTally{}.Add(member(1, 0), ended(jobs.Failed))
	one, other := base.Add(member(2, 0), ended(jobs.Failed)), base.Add(member(3, 0), ended(jobs.Expired))
	if one.Failed[1].UID != "e.2" || other.Failed[1].UID != "e.3" || len(base.Failed) != 1 {
		t.Errorf("%v, %v of %v", one.Failed, other.Failed, base.Failed)
	}
}

func TestSetTally_ItsListIsBounded(t *testing.T) {
	t.Parallel()
	var tally jobs.SetTally
	for n := range 500 {
		j := member(n+1, 0)
		j.ID = strings.Repeat("i", 300)
		tally = tally.Add(j, &jobs.Ruling{Outcome: jobs.Failed, Reason: strings.Repeat("r", 5000)})
	}
	b, err := tally.Encode()
	if err != nil || len(b) > 20<<10 {
		t.Errorf("a tally of %d bytes, %v; want at most 20 KiB", len(b), err)
	}
	if tally.Counts.Failed != 500 || !tally.Truncated {
		t.Errorf("%d failed, truncated %t; want 500 and true", tally.Counts.Failed, tally.Truncated)
	}
	again, err := jobs.DecodeSetTally(b)
	if diff := cmp.Diff(tally, again); err != nil || diff != "" {
		t.Errorf("read again: %v (-want +got):\n%s", err, diff)
	}
}

func TestSetTally_WhatContradictsItselfIsNoTally(t *testing.T) {
	t.Parallel()
	for _, text := range []string{``, `[]`, `{"counts":{"total":2,"succeeded":1}}`, `{"size":-1}`, `{"counts":{"total":0,"succeeded":1,"failed":-1}}`} {
		if _, err := jobs.DecodeSetTally([]byte(text)); !errors.Is(err, jobs.ErrTally) {
			t.Errorf("%q: %v, want ErrTally", text, err)
		}
	}
}

func TestSetTally_OutcomeOfASet(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		ends []jobs.Outcome
		want jobs.SetOutcome
	}{
		{[]jobs.Outcome{jobs.Succeeded, jobs.Succeeded}, jobs.SetSucceeded},
		{[]jobs.Outcome{jobs.Failed, jobs.Cancelled}, jobs.SetFailed},
		{[]jobs.Outcome{jobs.Succeeded, jobs.Expired}, jobs.SetPartial},
	} {
		var tally jobs.SetTally
		for i, o := range tc.ends {
			tally = tally.Add(member(i+1, 0), ended(o))
		}
		if got := tally.Outcome(); got != tc.want {
			t.Errorf("%v: %s, want %s", tc.ends, got, tc.want)
		}
	}
}

func TestSetEvent_Shape(t *testing.T) {
	t.Parallel()
	tally := jobs.SetTally{}.Add(member(2, 2), ended(jobs.Failed)).Merge(jobs.SetTally{}.Add(member(1, 0), ended(jobs.Succeeded)))
	b, err := jobs.NewSetEvent("mail", "import-7", tally, tally.Outcome(), setStart.Add(3500*time.Millisecond)).Encode(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"specversion":"1.0","id":"import-7","source":"/rollcall/mail","type":"rollcall.set.settled.v1","subject":"partial",` +
		`"time":"2026-01-31T12:00:03.5Z","datacontenttype":"application/json","data":{"set":"import-7","pool":"mail","outcome":"partial","size":2,` +
		`"first_at":"2026-01-31T12:00:01Z","settled_at":"2026-01-31T12:00:03.5Z","duration_ms":2500,` +
		`"counts":{"total":2,"succeeded":1,"failed":1,"expired":0,"invalid":0,"cancelled":0},` +
		`"failed":[{"id":"row-2","uid":"e.2","outcome":"failed","reason":"because"}],"truncated":false}}`
	if diff := cmp.Diff(want, string(b)); diff != "" {
		t.Errorf("event (-want +got):\n%s", diff)
	}
	e, err := jobs.DecodeSetEvent(b)
	if err != nil || e.Data.Counts.Total != 2 || e.Subject != jobs.SetPartial {
		t.Errorf("read again: %+v, %v", e, err)
	}
}

func TestSetEvent_ListsAHundredAndStaysUnderItsLimit(t *testing.T) {
	t.Parallel()
	var tally jobs.SetTally
	for lane := range 3 {
		var one jobs.SetTally
		for n := range 60 {
			one = one.Add(member(3*n+lane+1, 0), ended(jobs.Failed))
		}
		tally = tally.Merge(one)
	}
	e := jobs.NewSetEvent("mail", "import-7", tally, tally.Outcome(), setStart)
	if n := len(e.Data.Failed); n != 100 || !e.Data.Truncated || e.Data.Failed[0].UID != "e.1" || e.Data.Failed[99].UID != "e.100" {
		t.Errorf("%d are listed, truncated %t; want the first 100", n, e.Data.Truncated)
	}
	b, err := e.Encode(2000)
	if err != nil || len(b) > 2000 {
		t.Errorf("%d bytes, %v; want at most 2000", len(b), err)
	}
	var short struct{ Data jobs.SetEventData }
	if err := json.Unmarshal(b, &short); err != nil || !short.Data.Truncated || short.Data.Counts.Failed != 180 {
		t.Errorf("%+v, %v; want every count and truncated", short.Data.Counts, err)
	}
}

func TestDecodeSetEvent_RefusesOtherEvents(t *testing.T) {
	t.Parallel()
	for _, text := range []string{`{`, `{"type":"rollcall.batch.settled.v1"}`} {
		if _, err := jobs.DecodeSetEvent([]byte(text)); err == nil {
			t.Errorf("%q is no error", text)
		}
	}
}
