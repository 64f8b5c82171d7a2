package interop_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"

	"rollcall/internal/jobs"
	"rollcall/internal/service"
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
		if e.ID() != j.ID || e.Source() != j.Source || e.Type() != j.Type || e.Subject() != j.EventSubject || !e.Time().Equal(timeOf(t, j)) {
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

// timeOf is the time of a job's event.
func timeOf(t *testing.T, j *jobs.Job) time.Time {
	t.Helper()
	if j.Time == "" {
		return j.Published
	}
	at, err := jobs.ParseTime(j.Time)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// TestTheCloudEventsSDKReceivesBinaryMode has the SDK receive the requests of the format event.
func TestTheCloudEventsSDKReceivesBinaryMode(t *testing.T) {
	t.Parallel()
	c := batch()
	received := make(chan *event.Event, len(c.Jobs))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		message := cehttp.NewMessageFromHttpRequest(r)
		if message.ReadEncoding() != binding.EncodingBinary {
			t.Errorf("encoding %v", message.ReadEncoding())
		}
		e, err := binding.ToEvent(r.Context(), message)
		if err == nil {
			err = e.Validate()
		}
		if err != nil {
			t.Error(err)
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		received <- e
	}))
	t.Cleanup(srv.Close)
	cfg := config()
	cfg.Format = service.FormatEvent
	r := newService(t, srv.URL, cfg).Call(t.Context(), c)
	if r.Failure != nil || r.Tries != len(c.Jobs) {
		t.Fatalf("got %+v", r)
	}
	byUID := map[string]*jobs.Job{}
	for _, j := range c.Jobs {
		byUID[j.UID] = j
	}
	for range c.Jobs {
		e := <-received
		uid, _ := e.Extensions()["rollcalluid"].(string)
		j := byUID[uid]
		if j == nil {
			t.Errorf("event %v is of no job, or comes twice", e)
			continue
		}
		delete(byUID, uid)
		// The SDK leaves the percent-encoding of section 3.1.3.2 of the HTTP binding to its user.
		subject, err := url.PathUnescape(e.Subject())
		if err != nil || e.ID() != j.ID || e.Source() != j.Source || e.Type() != j.Type || subject != j.EventSubject || !e.Time().Equal(timeOf(t, j)) {
			t.Errorf("%v, want %+v", e, j)
		}
		if !bytes.Equal(e.Data(), j.Body) || len(j.Body) > 0 && e.DataContentType() != j.ContentType {
			t.Errorf("data %q of type %q, want %q of %q", e.Data(), e.DataContentType(), j.Body, j.ContentType)
		}
		for _, a := range j.Attributes {
			if a.Name != "dataschema" && e.Extensions()[a.Name] != a.Value {
				t.Errorf("extension %s is %v, want %s", a.Name, e.Extensions()[a.Name], a.Value)
			}
		}
	}
}
