package jobs_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"rollcall/internal/jobs"
)

var published = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

func delivered(body string, header map[string][]string) jobs.Delivery {
	return jobs.Delivery{
		Subject: "jobs.mail", Header: header, Data: []byte(body), Source: "/rollcall/JOBS/abc",
		Ref: jobs.Ref{Epoch: "abc", Seq: 7}, Delivered: 1, Published: published,
	}
}

// decoded is what the tests compare of a job.
type decoded struct {
	ID, Type, ContentType, Body string
	Format                      jobs.Format
	Invalid                     string
}

func view(j jobs.Job) decoded {
	v := decoded{ID: j.ID, Type: j.Type, ContentType: j.ContentType, Body: string(j.Body), Format: j.Format}
	if j.Verdict != nil {
		v.Invalid = j.Verdict.Reason
	}
	return v
}

func TestDecode(t *testing.T) {
	t.Parallel()
	const structured = "application/cloudevents+json; charset=utf-8"
	header := func(pairs ...string) map[string][]string {
		h := map[string][]string{}
		for i := 0; i < len(pairs); i += 2 {
			h[pairs[i]] = []string{pairs[i+1]}
		}
		return h
	}
	deep := strings.Repeat("[", 20000) + strings.Repeat("]", 20000)
	tests := map[string]struct {
		body   string
		header map[string][]string
		want   decoded
	}{
		"plain JSON":                   {`{"a":1}`, nil, decoded{"abc.7", "jobs.mail", "application/json", `{"a":1}`, jobs.FormatJSON, ""}},
		"empty":                        {``, nil, decoded{"abc.7", "jobs.mail", "", "", jobs.FormatJSON, ""}},
		"text":                         {`hello`, nil, decoded{"abc.7", "jobs.mail", "text/plain", "hello", jobs.FormatText, ""}},
		"text that looks like JSON":    {`123`, header("Content-Type", "text/plain"), decoded{"abc.7", "jobs.mail", "text/plain", "123", jobs.FormatText, ""}},
		"binary":                       {"\xff\x00", nil, decoded{"abc.7", "jobs.mail", "application/octet-stream", "\xff\x00", jobs.FormatBase64, ""}},
		"JSON in invalid UTF-8":        {"\"\xff\"", nil, decoded{"abc.7", "jobs.mail", "application/octet-stream", "\"\xff\"", jobs.FormatBase64, ""}},
		"deeper than JSON may be":      {deep, nil, decoded{"abc.7", "jobs.mail", "text/plain", deep, jobs.FormatText, ""}},
		"a JSON type, and no JSON":     {`{bad`, header("Content-Type", "application/json"), decoded{"abc.7", "jobs.mail", "application/json", "{bad", jobs.FormatText, ""}},
		"duplicate keys stay":          {`{"a":1,"a":2}`, nil, decoded{"abc.7", "jobs.mail", "application/json", `{"a":1,"a":2}`, jobs.FormatJSON, ""}},
		"message id":                   {`1`, header("nats-msg-id", "order-1"), decoded{"order-1", "jobs.mail", "application/json", "1", jobs.FormatJSON, ""}},
		"ce-id before message id":      {`1`, header("CE-ID", "ce", "Nats-Msg-Id", "msg"), decoded{"ce", "jobs.mail", "application/json", "1", jobs.FormatJSON, ""}},
		"binary CloudEvent":            {`1`, header("ce-id", "e1", "Ce-Type", "com.example.mail", "content-type", "application/json"), decoded{"e1", "com.example.mail", "application/json", "1", jobs.FormatJSON, ""}},
		"structured CloudEvent":        {`{"specversion":"1.0","id":"e2","source":"/s","type":"t","data":{"x": 1}}`, header("Content-Type", structured), decoded{"e2", "t", "application/json", `{"x": 1}`, jobs.FormatJSON, ""}},
		"structured text":              {`{"specversion":"1.0","id":"e2","source":"/s","type":"t","datacontenttype":"text/plain","data":"a\nb"}`, header("Content-Type", structured), decoded{"e2", "t", "text/plain", "a\nb", jobs.FormatText, ""}},
		"structured base64":            {`{"specversion":"1.0","id":"e2","source":"/s","type":"t","data_base64":"/wA="}`, header("Content-Type", structured), decoded{"e2", "t", "application/octet-stream", "\xff\x00", jobs.FormatBase64, ""}},
		"structured, with Nats-Msg-Id": {`{"specversion":"1.0","id":"e2","source":"/s","type":"t"}`, header("Content-Type", structured, "Nats-Msg-Id", "m"), decoded{"e2", "t", "", "", jobs.FormatJSON, ""}},
		"structured, not JSON":         {`nope`, header("Content-Type", structured), decoded{"abc.7", "jobs.mail", "text/plain", "nope", jobs.FormatText, "the body is not a structured CloudEvent: invalid character 'o' in literal null (expecting 'u')"}},
		"structured, no type":          {`{"specversion":"1.0","id":"e2","source":"/s"}`, header("Content-Type", structured), decoded{"abc.7", "jobs.mail", "application/json", `{"specversion":"1.0","id":"e2","source":"/s"}`, jobs.FormatJSON, "the structured CloudEvent lacks one of specversion, id, source, type"}},
		"unreadable deadline":          {`1`, header("Rollcall-Deadline", "tomorrow"), decoded{"abc.7", "jobs.mail", "application/json", "1", jobs.FormatJSON, `header Rollcall-Deadline "tomorrow" is not RFC 3339, for example 2026-01-31T12:00:00Z`}},
		"id in invalid UTF-8":          {`1`, header("Nats-Msg-Id", "\xff"), decoded{"abc.7", "jobs.mail", "application/json", "1", jobs.FormatJSON, "the job id is not valid UTF-8"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, view(jobs.Decode(delivered(tt.body, tt.header), 0))); diff != "" {
				t.Errorf("decoded (-want +got):\n%s", diff)
			}
		})
	}
}

// TestTextUnderAJSONTypeIsText in a call for many, where it would read as a string of JSON, and keeps its type alone.
func TestTextUnderAJSONTypeIsText(t *testing.T) {
	t.Parallel()
	j := jobs.Decode(delivered("{bad", map[string][]string{"Content-Type": {"application/json"}}), 0)
	if call := string(jobs.AppendCall(nil, []*jobs.Job{&j})); !strings.Contains(call, `"datacontenttype":"text/plain","data":"{bad"`) {
		t.Error(call)
	}
}

// TestAJobWithTooManyAttributesIsInvalid each time, and keeps the name that its producer gave it.
func TestAJobWithTooManyAttributesIsInvalid(t *testing.T) {
	t.Parallel()
	for _, n := range []int{128, 129, 140, 400} {
		header := map[string][]string{"ce-id": {"order-1"}, "ce-source": {"/shop"}, "ce-type": {"placed"}, "ce-specversion": {"1.0"}}
		for i := range n {
			header[fmt.Sprint("ce-ext", i)] = []string{"x"}
		}
		for range 20 { // maps have no order
			j := jobs.Decode(delivered("1", header), 0)
			if invalid := j.Verdict != nil; invalid != (n > 128) || j.ID != "order-1" || j.Source != "/shop" || j.Type != "placed" {
				t.Fatalf("%d attributes: %s %s %s, %+v", n, j.ID, j.Source, j.Type, j.Verdict)
			}
		}
	}
}

// TestServicesMayStandInSeveralHeaders of one name, as clients write them.
func TestServicesMayStandInSeveralHeaders(t *testing.T) {
	t.Parallel()
	j := jobs.Decode(delivered("1", map[string][]string{"Rollcall-Services": {"billing", "index, mail"}}), 0)
	if want := []string{"billing", "index", "mail"}; !slices.Equal(j.Services, want) {
		t.Errorf("services %v, want %v", j.Services, want)
	}
}

// TestWhatMayBeOneJobsDoingComesBackInHalves, whatever status says it.
func TestWhatMayBeOneJobsDoingComesBackInHalves(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		failure jobs.Failure
		want    int
	}{
		"500":                       {jobs.Failure{Reason: jobs.ReasonHTTP5xx}, 4},
		"408, or 404 by _RETRY":     {jobs.Failure{Reason: jobs.ReasonHTTP4xx}, 4},
		"302 by _RETRY":             {jobs.Failure{Reason: jobs.ReasonRedirect}, 4},
		"429":                       {jobs.Failure{Reason: jobs.ReasonThrottled, Free: true}, 0},
		"401":                       {jobs.Failure{Reason: jobs.ReasonHTTP4xx, Free: true, Misconfigured: true}, 0},
		"422":                       {jobs.Failure{Reason: jobs.ReasonHTTP4xx, Final: true}, 0},
		"nobody listens":            {jobs.Failure{Reason: jobs.ReasonRefused, Free: true}, 0},
		"the breaker is not closed": {jobs.Failure{Reason: jobs.ReasonBreakerOpen, Free: true}, 0},
	} {
		if got := test.failure.NextGroup(8); got != test.want {
			t.Errorf("%s: the next call holds %d of 8, want %d", name, got, test.want)
		}
	}
}

func TestDeadlineIsTheEarlierOfAgeAndHeader(t *testing.T) {
	t.Parallel()
	header := func(at time.Time) map[string][]string {
		return map[string][]string{"rollcall-deadline": {at.Format(time.RFC3339Nano)}}
	}
	tests := map[string]struct {
		maxAge time.Duration
		header map[string][]string
		want   time.Time
	}{
		"none":                  {0, nil, time.Time{}},
		"age":                   {time.Hour, nil, published.Add(time.Hour)},
		"header":                {0, header(published.Add(time.Minute)), published.Add(time.Minute)},
		"header before age":     {time.Hour, header(published.Add(time.Minute)), published.Add(time.Minute)},
		"age before the header": {time.Hour, header(published.Add(2 * time.Hour)), published.Add(time.Hour)},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if j := jobs.Decode(delivered("", tt.header), tt.maxAge); !j.Deadline.Equal(tt.want) {
				t.Errorf("deadline %s, want %s", j.Deadline, tt.want)
			}
		})
	}
}

func TestUID(t *testing.T) {
	t.Parallel()
	ref := jobs.Ref{Epoch: jobs.Epoch(published), Seq: 42}
	got, err := jobs.ParseUID(ref.UID())
	if err != nil || got != ref {
		t.Errorf("ParseUID(%q) = %v, %v", ref.UID(), got, err)
	}
	for _, bad := range []string{"", "abc", "abc.", ".1", "abc.-1", "a b.1", "ABC.1", "abc.1.2", "*.1"} {
		if _, err := jobs.ParseUID(bad); err == nil {
			t.Errorf("ParseUID(%q) accepted", bad)
		}
	}
}

// cloudEvent is one element of a call's body, as a service reads it.
type cloudEvent struct {
	SpecVersion, ID, Source, Type, Subject, Time, RollcallUID, DataContentType string
	Data                                                                       json.RawMessage
	DataBase64                                                                 []byte `json:"data_base64"`
}

func TestCallBodyIsABatchOfCloudEvents(t *testing.T) {
	t.Parallel()
	bodies := []string{`{"a": [1, 2]}`, "tab\t\"quoted\" é", "\xff\x00", ""}
	var batch []*jobs.Job
	for _, body := range bodies {
		j := jobs.Decode(delivered(body, map[string][]string{"Nats-Msg-Id": {"id \"1\"\n"}}), 0)
		batch = append(batch, &j)
	}
	body := jobs.AppendCall(nil, batch)
	var got []cloudEvent
	if err := json.Unmarshal(body, &got); err != nil {
		t.Fatalf("body %s: %v", body, err)
	}
	want := cloudEvent{
		SpecVersion: "1.0", ID: "id \"1\"\n", Source: "/rollcall/JOBS/abc", Type: "jobs.mail", Subject: "jobs.mail",
		Time: "2026-01-31T12:00:00Z", RollcallUID: "abc.7",
	}
	for i, change := range []func(*cloudEvent){
		func(e *cloudEvent) { e.DataContentType, e.Data = "application/json", json.RawMessage(bodies[0]) },
		func(e *cloudEvent) { e.DataContentType, e.Data = "text/plain", json.RawMessage(`"tab\t\"quoted\" é"`) },
		func(e *cloudEvent) { e.DataContentType, e.DataBase64 = "application/octet-stream", []byte(bodies[2]) },
		func(*cloudEvent) {},
	} {
		w := want
		change(&w)
		if diff := cmp.Diff(w, got[i]); diff != "" {
			t.Errorf("event %d (-want +got):\n%s", i, diff)
		}
	}
}

func TestCallKeyStandsForItsBody(t *testing.T) {
	t.Parallel()
	var all []*jobs.Job
	for seq := range uint64(3) {
		d := delivered("1", nil)
		d.Ref.Seq = seq
		j := jobs.Decode(d, 0)
		all = append(all, &j)
	}
	batch := &jobs.Batch{ID: "b", Jobs: all}
	whole, first, rest := jobs.CallKey(batch, "billing", all), jobs.CallKey(batch, "billing", all[:1]), jobs.CallKey(batch, "billing", all[1:])
	if whole != "b:billing" {
		t.Errorf("key of the whole batch: %s", whole)
	}
	if first == rest || !strings.HasPrefix(first, "b:billing:") || first != jobs.CallKey(batch, "billing", all[:1]) {
		t.Errorf("keys of parts: %s, %s", first, rest)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"specversion":"1.0","id":"1","source":"s","type":"t","data":"x"}`), "Content-Type", "application/cloudevents+json")
	f.Add([]byte("\xff"), "rollcall-deadline", "2026-01-31T12:00:00Z")
	f.Add([]byte("[1"), "ce-id", "\xff")
	f.Fuzz(func(t *testing.T, body []byte, name, value string) {
		j := jobs.Decode(delivered(string(body), map[string][]string{name: {value}}), time.Hour)
		var events []cloudEvent
		encoded := jobs.AppendCall(nil, []*jobs.Job{&j})
		if err := json.Unmarshal(encoded, &events); err != nil || !utf8.Valid(encoded) {
			t.Fatalf("the call body is broken: %v\n%s", err, encoded)
		}
		if j.ID == "" || events[0].ID != j.ID {
			t.Errorf("id %q arrives as %q", j.ID, events[0].ID)
		}
	})
}

func FuzzValidJSON(f *testing.F) {
	for _, s := range []string{`{"a":[1,-0.5e+3,true,null,"\u00e9\n"]}`, `01`, `"\x"`, " 1 ", `{"a":}`, "\"\xff\"", `[1,]`, `-`, `1.`, "\"\t\""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, want := jobs.ValidJSON(b), json.Valid(b) && utf8.Valid(b); got != want {
			t.Errorf("ValidJSON(%q) = %v, encoding/json says %v", b, got, want)
		}
	})
}

func TestJobsGetTheirUIDsTogether(t *testing.T) {
	t.Parallel()
	members := make([]*jobs.Job, 4)
	for i := range members {
		members[i] = &jobs.Job{Delivery: jobs.Delivery{Ref: jobs.Ref{Epoch: "dk3x0q1z7f4w", Seq: uint64(i) * 1_000_000_007}}}
	}
	members[2].UID = "core.x"
	jobs.SetUIDs(members)
	for i := range members {
		want := members[i].Ref.UID()
		if i == 2 {
			want = "core.x"
		}
		if members[i].UID != want {
			t.Errorf("job %d has the uid %q, want %q", i, members[i].UID, want)
		}
	}
	jobs.SetUIDs(nil)
}
