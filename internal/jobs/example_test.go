package jobs_test

import (
	"fmt"
	"time"

	"rollcall/internal/jobs"
)

// A delivery becomes a job, and a job an element of a call's body.
func Example() {
	j := jobs.Decode(jobs.Delivery{
		Subject:   "jobs.mail",
		Header:    map[string][]string{"Nats-Msg-Id": {"order-1"}},
		Data:      []byte(`{"to":"ann@example.com"}`),
		Source:    "/rollcall/JOBS/dk3x0q1z7f4w",
		Ref:       jobs.Ref{Epoch: "dk3x0q1z7f4w", Seq: 42},
		Delivered: 1,
		Published: time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC),
	}, 24*time.Hour)
	fmt.Println(j.ID, j.UID)
	fmt.Println(string(jobs.AppendCall(nil, []*jobs.Job{&j})))
	// Output:
	// order-1 dk3x0q1z7f4w.42
	// [{"specversion":"1.0","id":"order-1","source":"/rollcall/JOBS/dk3x0q1z7f4w","type":"jobs.mail","subject":"jobs.mail","time":"2026-01-31T12:00:00Z","rollcalluid":"dk3x0q1z7f4w.42","rollcallsubject":"jobs.mail","rollcallattempt":1,"rollcalldeadline":"2026-02-01T12:00:00Z","datacontenttype":"application/json","data":{"to":"ann@example.com"}}]
}
