package interop_test

import (
	"bytes"
	"io"
	"net/http"
	"testing"

	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
)

// TestTheCloudEventsSDKReadsEveryCall parses a call as the SDK's HTTP binding does, validates
// every event and compares its attributes and data with the job.
func TestTheCloudEventsSDKReadsEveryCall(t *testing.T) {
	t.Parallel()
	c := batch()
	got := capture(t, config(), c)
	events, err := cehttp.NewEventsFromHTTPRequest(&http.Request{Header: got.header, Body: io.NopCloser(bytes.NewReader(got.body))})
	if err != nil {
		t.Fatal(err)
	}
	if len(events) != len(c.Jobs) {
		t.Fatalf("the SDK reads %d events of %d jobs", len(events), len(c.Jobs))
	}
	for i, e := range events {
		j := c.Jobs[i]
		if err := e.Validate(); err != nil {
			t.Errorf("job %d: %v", i, err)
		}
		if e.ID() != j.ID || e.Source() != j.Source || e.Type() != j.Type || e.Subject() != j.Subject || !e.Time().Equal(j.Time) {
			t.Errorf("job %d: %v", i, e)
		}
		if e.DataContentType() != j.ContentType || e.Extensions()["rollcalluid"] != j.UID {
			t.Errorf("job %d: datacontenttype %q, rollcalluid %v", i, e.DataContentType(), e.Extensions()["rollcalluid"])
		}
		data := e.Data()
		if !bytes.Equal(data, j.Body) && string(data) != quoted(j.Body) {
			t.Errorf("job %d: data %q, want %q", i, data, j.Body)
		}
	}
}
