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

// sent returns the CloudEvent that a service gets for a delivery, as a map.
func sent(t *testing.T, d jobs.Delivery) map[string]any {
	t.Helper()
	j := jobs.Decode(d, 0)
	if j.Verdict != nil {
		t.Fatalf("verdict %+v", j.Verdict)
	}
	var events []map[string]any
	body := jobs.AppendCall(nil, []*jobs.Job{&j})
	if err := json.Unmarshal(body, &events); err != nil {
		t.Fatalf("body %s: %v", body, err)
	}
	return events[0]
}

// TestACloudEventKeepsItsAttributes has a producer's event in both modes, with everything that
// an event may have.
func TestACloudEventKeepsItsAttributes(t *testing.T) {
	t.Parallel()
	want := map[string]any{
		"specversion": "1.0", "id": "e1", "source": "https://shop.example/orders", "type": "shop.order.placed", "subject": "order 17 für ✓",
		"time": "2026-01-31T13:00:00.120+01:00", "dataschema": "https://shop.example/schema", "datacontenttype": "application/json",
		"tenant": "acme", "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "a=b",
		"data":        map[string]any{"n": 1.0},
		"rollcalluid": "abc.7", "rollcallsubject": "jobs.mail", "rollcallattempt": 1.0,
	}
	binary := delivered(`{"n":1}`, map[string][]string{
		"Ce-Specversion": {"1.0"}, "ce-id": {"e1"}, "CE-Source": {"https://shop.example/orders"}, "ce-type": {"shop.order.placed"},
		"ce-subject": {"order%2017%20f%c3%bcr%20%E2%9C%93"}, "ce-time": {"2026-01-31T13:00:00.120+01:00"}, "ce-dataschema": {"https://shop.example/schema"},
		"ce-datacontenttype": {"application/json"}, "ce-Tenant": {`"acme"`}, "ce-traceparent": {want["traceparent"].(string)}, "ce-tracestate": {"a=b"},
		"Nats-Msg-Id": {"not the id"},
	})
	if diff := cmp.Diff(want, sent(t, binary)); diff != "" {
		t.Errorf("binary mode (-want +got):\n%s", diff)
	}
	structured := delivered(`{"specversion":"1.0","id":"e1","source":"https://shop.example/orders","type":"shop.order.placed","subject":"order 17 für ✓",
		"time":"2026-01-31T13:00:00.120+01:00","dataschema":"https://shop.example/schema","datacontenttype":"application/json","tenant":"acme","level":7,"urgent":true,"unset":null,
		"traceparent":"`+want["traceparent"].(string)+`","tracestate":"a=b","rollcalluid":"forged","data":{"n":1}}`,
		map[string][]string{"Content-Type": {"application/cloudevents+json"}, "Nats-Msg-Id": {"not the id"}})
	want["level"], want["urgent"] = 7.0, true
	if diff := cmp.Diff(want, sent(t, structured)); diff != "" {
		t.Errorf("structured mode (-want +got):\n%s", diff)
	}
}

// CloudEvents knows integers of 32 bits and strings for dataschema and traces; a library at a
// service refuses the whole batch for another number.
func TestNumbersThatCloudEventsDoesNotKnowTravelAsText(t *testing.T) {
	t.Parallel()
	got := sent(t, delivered(`{"specversion":"1.0","id":"1","source":"/s","type":"t","most":2147483647,"least":-2147483648,
		"more":2147483648,"half":1.5,"round":1.0,"power":1e3,"dataschema":7,"traceparent":8,"tracestate":true}`,
		map[string][]string{"Content-Type": {jobs.MediaEvent}}))
	for name, want := range map[string]any{
		"most": 2147483647.0, "least": -2147483648.0, "more": "2147483648", "half": "1.5", "round": "1.0", "power": "1e3",
		"dataschema": "7", "traceparent": "8", "tracestate": "true",
	} {
		if got[name] != want {
			t.Errorf("%s is sent as %#v, want %#v", name, got[name], want)
		}
	}
}

func TestAPlainJobBecomesACloudEvent(t *testing.T) {
	t.Parallel()
	d := delivered("1", map[string][]string{
		"traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}, "tracestate": {"x=y"}, "X-Tenant": {"acme"},
		"Rollcall-Set": {"import-7"}, "Rollcall-Deadline": {"2026-02-01T00:00:00Z"},
	})
	want := map[string]any{
		"specversion": "1.0", "id": "abc.7", "source": "/rollcall/JOBS/abc", "type": "jobs.mail", "subject": "jobs.mail", "time": "2026-01-31T12:00:00Z",
		"datacontenttype": "application/json", "data": 1.0, "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "x=y",
		"rollcalluid": "abc.7", "rollcallsubject": "jobs.mail", "rollcallattempt": 1.0, "rollcallset": "import-7", "rollcalldeadline": "2026-02-01T00:00:00Z",
	}
	if diff := cmp.Diff(want, sent(t, d)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTheAttemptIsCounted(t *testing.T) {
	t.Parallel()
	j := jobs.Decode(delivered("1", nil), 0)
	j.Record.Attempts = 4
	if body := string(jobs.AppendCall(nil, []*jobs.Job{&j})); !strings.Contains(body, `"rollcallattempt":5`) {
		t.Errorf("the fifth attempt is sent as %s", body)
	}
}

// TestAHeaderThatStandsTwiceIsAlwaysReadAlike publishes each header in two spellings.
func TestAHeaderThatStandsTwiceIsAlwaysReadAlike(t *testing.T) {
	t.Parallel()
	for range 64 { // the order of a map is drawn anew each time
		j := jobs.Decode(delivered("1", map[string][]string{
			"Nats-Msg-Id": {"canonical"}, "nats-msg-id": {"small"}, "NATS-MSG-ID": {"large"},
			"CE-TYPE": {"large"}, "Ce-Type": {"mixed"},
			"Rollcall-Set": {"one"}, "rollcall-set": {"two"},
			"CE-tenant": {"large"}, "ce-tenant": {"canonical"},
		}), 0)
		if j.ID != "canonical" || j.Type != "large" || j.Set != "one" {
			t.Fatalf("id %q, type %q, set %q", j.ID, j.Type, j.Set)
		}
		if len(j.Attributes) != 1 || j.Attributes[0].Value != "canonical" {
			t.Fatalf("attributes %+v", j.Attributes)
		}
	}
}

func TestHeaderValue(t *testing.T) {
	t.Parallel()
	d := delivered("", map[string][]string{"x-tenant": {"a"}, "X-TENANT": {"b"}, "X-Empty": {""}, "X-None": {}})
	for name, want := range map[string]string{"x-tenant": "a", "X-TENANT": "b", "X-Tenant": "b"} {
		if got, found := d.HeaderValue(name); got != want || !found {
			t.Errorf("%s: %q, %v; want %q", name, got, found, want)
		}
	}
	if got, found := d.HeaderValue("x-empty"); got != "" || !found {
		t.Errorf("an empty header: %q, %v", got, found)
	}
	for _, name := range []string{"X-None", "X-Other"} {
		if got, found := d.HeaderValue(name); found {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// TestTheZeroTimeIsADeadlineThatIsOver: a Go program sends it for a time that was never set.
func TestTheZeroTimeIsADeadlineThatIsOver(t *testing.T) {
	t.Parallel()
	j := jobs.Decode(jobs.Delivery{Subject: "jobs.a", Header: map[string][]string{"Rollcall-Deadline": {time.Time{}.Format(time.RFC3339)}}, Data: []byte("1")}, 0)
	if j.Verdict != nil || j.Deadline.IsZero() || j.Deadline.Year() != 1 {
		t.Errorf("the deadline is %v, %+v", j.Deadline, j.Verdict)
	}
}

func TestNoUIDHasSequenceZero(t *testing.T) {
	t.Parallel()
	if ref, err := jobs.ParseUID("abc.0"); !errors.Is(err, jobs.ErrUID) {
		t.Errorf("abc.0 is %v, %v; streams begin with 1", ref, err)
	}
}

func TestTimesAreReadAsTheRFCSays(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"2026-01-31T12:00:00Z": noon, "2026-01-31t12:00:00z": noon, "2026-01-31T13:00:00+01:00": noon, "2026-01-31T12:00:00.25Z": noon.Add(250 * time.Millisecond),
		"2026-01-31T11:59:60Z": noon, "2026-01-31T11:59:60.5Z": noon.Add(500 * time.Millisecond), "2026-01-31T12:00:00-00:00": noon, "2026-01-31T12:00:00.123456789012Z": noon.Add(123456789),
	} {
		if got, err := jobs.ParseTime(text); err != nil || !got.Equal(want) {
			t.Errorf("%s: %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "2026-01-31", "2026-01-31T12:00:00", "2026-01-31 12:00:00Z", "2026-01-31T12:00:00+24:00", "2026-01-31T12:00:00+01:60", "2026-01-31T24:00:00Z",
		"2026-01-31T12:00:61Z", "2026-02-30T12:00:00Z", "2026-01-31T12:00:00,5Z", "2026-01-31T12:00:00.Z", "2026-01-31T12:00:00+0100", "2026-1-31T12:00:00Z", "2026-01-31T1:00:00Z", "tomorrow",
	} {
		if got, err := jobs.ParseTime(text); err == nil {
			t.Errorf("%q was read as %v", text, got)
		}
	}
}

func TestSetHeaders(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		set, size, wantSet string
		wantSize           int
		invalid            bool
	}{
		"both":             {"import-7", "5000", "import-7", 5000, false},
		"no size":          {"import_7", "", "import_7", 0, false},
		"a bad set":        {"import 7", "5", "", 0, true},
		"a long set":       {strings.Repeat("a", 65), "", "", 0, true},
		"size zero":        {"s", "0", "s", 0, true},
		"size negative":    {"s", "-1", "s", 0, true},
		"size of a half":   {"s", "1.5", "s", 0, true},
		"size in words":    {"s", "many", "s", 0, true},
		"size with a plus": {"s", "+5", "s", 0, true},
		"size beyond":      {"s", "99999999999999999999", "s", 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := map[string][]string{"Rollcall-Set": {tt.set}}
			if tt.size != "" {
				h["rollcall-set-size"] = []string{tt.size}
			}
			j := jobs.Decode(delivered("1", h), 0)
			if j.Set != tt.wantSet || j.SetSize != tt.wantSize || (j.Verdict != nil) != tt.invalid {
				t.Errorf("set %q of %d, verdict %+v", j.Set, j.SetSize, j.Verdict)
			}
		})
	}
}

func TestServicesHeader(t *testing.T) {
	t.Parallel()
	for value, want := range map[string][]string{"": nil, "billing": {"billing"}, " billing , search,": {"billing", "search"}, ",": nil} {
		j := jobs.Decode(delivered("1", map[string][]string{"ROLLCALL-SERVICES": {value}}), 0)
		if diff := cmp.Diff(want, j.Services); diff != "" {
			t.Errorf("%q (-want +got):\n%s", value, diff)
		}
	}
}

func TestWhatIsNoAttributeEndsTheJobOrStaysBehind(t *testing.T) {
	t.Parallel()
	j := jobs.Decode(delivered("1", map[string][]string{"ce-tenant": {"%C0%A0"}}), 0)
	if j.Verdict == nil || !strings.Contains(j.Verdict.Reason, "ce-tenant") {
		t.Errorf("an overlong encoding: %+v", j.Verdict)
	}
	many := map[string][]string{}
	for i := range 200 {
		many[fmt.Sprintf("ce-a%d", i)] = []string{"x"}
	}
	if j := jobs.Decode(delivered("1", many), 0); j.Verdict == nil || len(j.Attributes) > 128 {
		t.Errorf("200 attributes: %d kept, verdict %+v", len(j.Attributes), j.Verdict)
	}
	got := sent(t, delivered("1", map[string][]string{"ce-with_underscore": {"x"}, "ce-": {"x"}, "ce-discount": {"50% off"}, "ce-data": {"x"}, "ce-rollcallset": {"x"}}))
	if got["discount"] != "50% off" || got["with_underscore"] != nil || got[""] != nil || got["data"] != 1.0 || got["rollcallset"] != nil {
		t.Errorf("got %v", got)
	}
}

func TestPointer(t *testing.T) {
	t.Parallel()
	const doc = `{"order":{"id":17,"lines":[{"sku":"a/b"},"x"],"":1,"a/b":2,"m~n":3,"twice":1,"twice":2,"\u0061ccent":"é"},"ok":true,"none":null}`
	for pointer, want := range map[string]string{
		"/order/id": "17", "/order/lines/0/sku": `"a/b"`, "/order/lines/1": `"x"`, "/order/": "1", "/order/a~1b": "2", "/order/m~0n": "3",
		"/order/twice": "2", "/order/accent": `"é"`, "/ok": "true", "/none": "null", "/order/lines/2": "", "/order/lines/-": "", "/order/lines/01": "", "/order/id/x": "", "/missing": "", "": doc,
	} {
		if got := string(jobs.Pointer([]byte(doc), pointer)); got != want {
			t.Errorf("%q is %s, want %s", pointer, got, want)
		}
	}
}

func TestPrintable(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"plain": "plain", "\x1b[31mred\x1b[0m\r\nnext": "[31mred [0m next", "  a \n\t b ": "a b", "bad \xff byte": "bad \ufffd byte", "\u202eevil": "evil", "": "",
	} {
		if got := jobs.Printable(text, 200); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
	if got := jobs.Printable(strings.Repeat("é", 200), 200); len(got) > 200 {
		t.Errorf("%d bytes", len(got))
	}
}
