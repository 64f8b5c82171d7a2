package service_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"rollcall/internal/jobs"
	"rollcall/internal/service"
)

const (
	ok    = jobs.StatusOK
	fail  = jobs.StatusFail
	retry = jobs.StatusRetry
)

func statuses(replies []jobs.Reply) []jobs.Status {
	out := make([]jobs.Status, len(replies))
	for i := range replies {
		out[i] = replies[i].Status
	}
	return out
}

// TestDecodeDialects reads replies to a call for a0, a1 and a2.
func TestDecodeDialects(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		body string
		want []jobs.Status
	}{
		"empty":                       {"", []jobs.Status{ok, ok, ok}},
		"a line end":                  {"\r\n", []jobs.Status{ok, ok, ok}},
		"all ok":                      {`{"results":[{"id":"a0","status":"ok"},{"id":"a1","status":"ok"},{"id":"a2","status":"ok"}]}`, []jobs.Status{ok, ok, ok}},
		"all ok, spread out":          {"\n{ \"results\" : [ {\"id\": \"a0\", \"status\":\t\"ok\"} , {\"id\":\"a1\",\"status\":\"ok\"}, {\"id\":\"a2\",\"status\":\"ok\"}\r\n]\n} ", []jobs.Status{ok, ok, ok}},
		"another order":               {`{"results":[{"status":"fail","id":"a2"},{"id":"a0","status":"ok"},{"id":"a1","status":"retry"}]}`, []jobs.Status{ok, retry, fail}},
		"unlisted is retry":           {`{"results":[{"id":"a1","status":"ok"}]}`, []jobs.Status{retry, ok, retry}},
		"nobody listed":               {`{"results":[]}`, []jobs.Status{retry, retry, retry}},
		"no results":                  {`{"results":null}`, []jobs.Status{retry, retry, retry}},
		"further keys":                {`{"took_ms":3,"results":[{"id":"a0","status":"ok","shard":7}]}`, []jobs.Status{ok, retry, retry}},
		"escaped id":                  {`{"results":[{"id":"\u00610","status":"ok"}]}`, []jobs.Status{ok, retry, retry}},
		"escaped key":                 {`{"\u0072esults":[{"id":"a0","status":"fail"},{"id":"a1","status":"ok"}]}`, []jobs.Status{fail, ok, retry}},
		"escaped key, SQS":            {`{"batch\u0049temFailures":[{"itemIdentifier":"a1"}]}`, []jobs.Status{ok, retry, ok}},
		"escaped key and another":     {`{"results":[],"\u0073tatuses":[]}`, nil},
		"SQS, some":                   {`{"batchItemFailures":[{"itemIdentifier":"a1"}]}`, []jobs.Status{ok, retry, ok}},
		"SQS, none":                   {`{"batchItemFailures":[]}`, []jobs.Status{ok, ok, ok}},
		"SQS, null":                   {`{"batchItemFailures":null}`, []jobs.Status{ok, ok, ok}},
		"Dapr":                        {`{"statuses":[{"entryId":"a0","status":"SUCCESS"},{"entryId":"a1","status":"RETRY"},{"entryId":"a2","status":"DROP"}]}`, []jobs.Status{ok, retry, fail}},
		"Dapr, unlisted is retry":     {`{"statuses":[{"entryId":"a2","status":"SUCCESS"}]}`, []jobs.Status{retry, retry, ok}},
		"Dapr, null":                  {`{"statuses":null}`, []jobs.Status{retry, retry, retry}},
		"a byte order mark":           {"\ufeff{\"results\":[{\"id\":\"a1\",\"status\":\"ok\"}]}", []jobs.Status{retry, ok, retry}},
		"nothing but a mark":          {"\ufeff", []jobs.Status{ok, ok, ok}},
		"by uid":                      {`{"results":[{"id":"e.2","status":"ok"},{"id":"a0","status":"fail"}]}`, []jobs.Status{fail, ok, retry}},
		"no dialect":                  {`{}`, []jobs.Status{ok, ok, ok}},
		"an answer of its own":        {`{"status":"created","invoice":7,"RESULTS":1}`, []jobs.Status{ok, ok, ok}},
		"its own, in Latin-1":         {"{\"msg\":\"\xe9\"}", []jobs.Status{ok, ok, ok}},
		"null":                        {`null`, []jobs.Status{ok, ok, ok}},
		"a list":                      {`["a0"]`, []jobs.Status{ok, ok, ok}},
		"a string":                    {`"done"`, []jobs.Status{ok, ok, ok}},
		"by id and by uid":            {`{"results":[{"id":"e.1","status":"ok"},{"id":"a0","status":"ok"}]}`, nil},
		"results twice":               {`{"results":[],"results":[]}`, nil},
		"a dialect in Latin-1":        {"{\"results\":[{\"id\":\"a0\",\"status\":\"fail\",\"error\":\"\xe9\"}]}", nil},
		"results of its own":          {`{"results":{"a0":"ok"}}`, nil},
		"entries that are no objects": {`{"results":["a0"]}`, nil},
		"a login page":                {`<!doctype html><title>Sign in</title>`, nil},
		"plain text":                  {`OK`, nil},
		"unlisted id":                 {`{"results":[{"id":"a3","status":"ok"}]}`, nil},
		"no id":                       {`{"results":[{"status":"ok"}]}`, nil},
		"id of a number":              {`{"results":[{"id":0,"status":"ok"}]}`, nil},
		"no status":                   {`{"results":[{"id":"a0"}]}`, nil},
		"status in capitals":          {`{"results":[{"id":"a0","status":"OK"}]}`, nil},
		"SQS, unknown":                {`{"batchItemFailures":[{"itemIdentifier":"b"}]}`, nil},
		"SQS, empty":                  {`{"batchItemFailures":[{"itemIdentifier":""}]}`, nil},
		"SQS, twice":                  {`{"batchItemFailures":[{"itemIdentifier":"a1"},{"itemIdentifier":"a1"}]}`, nil},
		"Dapr, unknown status":        {`{"statuses":[{"entryId":"a0","status":"success"}]}`, nil},
		"two dialects":                {`{"results":[],"batchItemFailures":[]}`, nil},
		"two dialects, both null":     {`{"results":null,"batchItemFailures":null}`, nil},
		"cut":                         {`{"results":[{"id":"a0","status":"ok"}`, nil},
		"two documents":               {`{"results":[]}{"results":[]}`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, failure := service.Decode(call(3), []byte(test.body), "application/json")
			if test.want == nil {
				if failure == nil || got != nil || failure.Reason != jobs.ReasonBadResponse || failure.Final {
					t.Fatalf("got %v, %v; want a call that failed retryably", got, failure)
				}
				return
			}
			if failure != nil {
				t.Fatal(failure)
			}
			if diff := cmp.Diff(test.want, statuses(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDecodeWhatAResultSays(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é", 200)
	for entry, want := range map[string]jobs.Reply{
		`"error":"no such order"`:           {Error: "no such order"},
		`"error":"` + long + `"`:            {Error: long[:256]},
		`"error":"x` + long + `"`:           {Error: "x" + long[:254]},
		`"retry_after":"2s"`:                {RetryAfter: 2 * time.Second},
		`"retry_after":"1m30s"`:             {RetryAfter: time.Minute},
		`"retry_after":3`:                   {RetryAfter: 3 * time.Second},
		`"retry_after":0.25`:                {RetryAfter: 250 * time.Millisecond},
		`"retry_after":"4"`:                 {RetryAfter: 4 * time.Second},
		`"retry_after":-1`:                  {},
		`"retry_after":"-1s"`:               {},
		`"retry_after":"soon"`:              {},
		`"retry_after":"NaN"`:               {},
		`"retry_after":{"s":1}`:             {},
		`"retry_after":null`:                {},
		`"retry_after":1e400`:               {RetryAfter: time.Minute},
		`"retry_after":1e30`:                {RetryAfter: time.Minute},
		`"data":{"n": 1}`:                   {Data: json.RawMessage(`{"n": 1}`)},
		"\"data\":{\n  \"n\":\r\n \"\\n\"}": {Data: json.RawMessage(`{"n":"\n"}`)},
		`"data":null`:                       {},
		`"data":false`:                      {Data: json.RawMessage(`false`)},
	} {
		got, failure := service.Decode(call(1), []byte(`{"results":[{"id":"a0","status":"retry",`+entry+`}]}`), "")
		if failure != nil {
			t.Errorf("%s: %v", entry, failure)
			continue
		}
		if diff := cmp.Diff([]jobs.Reply{want}, got); diff != "" {
			t.Errorf("%s: %s", entry, diff)
		}
	}
}

// sharing returns a call for three jobs, the first two of which were given the same id.
func sharing() *jobs.Call {
	c := call(3)
	c.Jobs[1].ID = c.Jobs[0].ID
	return c
}

// TestAnIDThatTwoJobsShareSettlesNeither has replies that name jobs by an id that two of them
// were given: only those two come back.
func TestAnIDThatTwoJobsShareSettlesNeither(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]struct {
		statuses []jobs.Status
		alone    []bool
	}{
		`{"results":[{"id":"e.2","status":"fail"},{"id":"e.1","status":"ok"},{"id":"a2","status":"ok"}]}`: {[]jobs.Status{ok, fail, ok}, []bool{false, false, false}},
		`{"results":[{"id":"a0","status":"ok"},{"id":"a0","status":"ok"},{"id":"a2","status":"ok"}]}`:     {[]jobs.Status{retry, retry, ok}, []bool{true, true, false}},
		`{"results":[{"id":"a0","status":"ok"},{"id":"a2","status":"fail"}]}`:                             {[]jobs.Status{retry, retry, fail}, []bool{true, true, false}},
		`{"results":[{"id":"a0","status":"ok"},{"id":"e.2","status":"ok"}]}`:                              {[]jobs.Status{retry, ok, retry}, []bool{true, false, false}},
		`{"batchItemFailures":[{"itemIdentifier":"a0"}]}`:                                                 {[]jobs.Status{retry, retry, ok}, []bool{true, true, false}},
		`{"batchItemFailures":[{"itemIdentifier":"a2"}]}`:                                                 {[]jobs.Status{ok, ok, retry}, []bool{false, false, false}},
		`{"statuses":[{"entryId":"a0","status":"DROP"},{"entryId":"a2","status":"SUCCESS"}]}`:             {[]jobs.Status{retry, retry, ok}, []bool{true, true, false}},
	} {
		got, failure := service.Decode(sharing(), []byte(body), "")
		if failure != nil {
			t.Errorf("%s: %v", body, failure)
			continue
		}
		if diff := cmp.Diff(want.statuses, statuses(got)); diff != "" {
			t.Errorf("%s: %s", body, diff)
		}
		for i, r := range got {
			if r.Alone != want.alone[i] || r.Alone && !strings.Contains(r.Error, "rollcalluid") {
				t.Errorf("%s: job %d: %+v", body, i, r)
			}
		}
	}
	if _, failure := service.Decode(sharing(), []byte(`{"results":[{"id":"a0","status":"ok"},{"id":"a0","status":"ok"},{"id":"a0","status":"ok"}]}`), ""); failure == nil {
		t.Error("an id that two jobs share may stand three times")
	}
}

// TestAnIDThatIsAnothersUID has a producer that calls a job by the uid of another one: whose
// answer that is cannot be known.
func TestAnIDThatIsAnothersUID(t *testing.T) {
	t.Parallel()
	c := call(3)
	c.Jobs[2].ID = "e.1"
	for _, body := range []string{
		`{"results":[{"id":"e.1","status":"ok"},{"id":"e.2","status":"fail"}]}`,
		`{"results":[{"id":"a1","status":"fail"},{"id":"e.1","status":"ok"}]}`,
	} {
		got, failure := service.Decode(c, []byte(body), "")
		if failure != nil {
			t.Fatal(failure)
		}
		if diff := cmp.Diff([]jobs.Status{retry, fail, retry}, statuses(got)); diff != "" || !got[0].Alone || !got[2].Alone {
			t.Errorf("%s: %+v", body, got)
		}
	}
	if service.AllOK(c, []byte(`{"results":[{"id":"a0","status":"ok"},{"id":"a1","status":"ok"},{"id":"e.1","status":"ok"}]}`)) {
		t.Error("recognized as all ok")
	}
}

func TestIdsThatAreNumbers(t *testing.T) {
	t.Parallel()
	c := call(3)
	c.Jobs[0].ID, c.Jobs[1].ID, c.Jobs[2].ID = "17", "0.5", "-3"
	for _, body := range []string{
		`{"results":[{"id":17,"status":"ok"},{"id":0.5,"status":"retry"},{"id":-3,"status":"fail"}]}`,
		`{"statuses":[{"entryId":17,"status":"SUCCESS"},{"entryId":0.5,"status":"RETRY"},{"entryId":"-3","status":"DROP"}]}`,
	} {
		got, failure := service.Decode(c, []byte(body), "")
		if failure != nil {
			t.Fatal(failure)
		}
		if diff := cmp.Diff([]jobs.Status{ok, retry, fail}, statuses(got)); diff != "" {
			t.Errorf("%s: %s", body, diff)
		}
	}
	if _, failure := service.Decode(c, []byte(`{"results":[{"id":17.0,"status":"ok"}]}`), ""); failure == nil {
		t.Error("17.0 is not what the producer wrote")
	}
}

// TestManySmallEntriesAreRefusedWhileReading has a reply under the cap whose entries, decoded,
// would take many times its length.
func TestManySmallEntriesAreRefusedWhileReading(t *testing.T) {
	c := call(2)
	body := []byte(`{"results":[{"id":"a0","status":"ok"},{"id":"a1","status":"ok"}` + strings.Repeat(",{}", 300_000) + `]}`)
	decode := service.NewDecoder()
	var failure *jobs.Failure
	allocated := testing.Benchmark(func(b *testing.B) {
		for b.Loop() {
			_, failure = decode(c, body, "")
		}
	}).AllocedBytesPerOp()
	if failure == nil || !strings.Contains(failure.Error(), "the call had 2") {
		t.Errorf("got %v", failure)
	}
	if allocated > 64<<10 {
		t.Errorf("%d bytes allocated for %d entries", allocated, 300_000)
	}
}

func TestDecodeErrorsTellWhatIsWrongWithoutTheBody(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		"<html>Sign in</html>": "text/html",
		`{"results":[{"id":"a0","status":"ok","error":4111111111111111}]}`: "error cannot be a number",
		`{"results":"4111111111111111"}`:                                   "results cannot be a string",
		`{"results":{}}`:                                                   "results cannot be an object",
		`{"results":[["4111"]]}`:                                           "an entry cannot be an array",
		`{"results":[{"id":"4111","status":"ok"}]}`:                        "entry 1",
		`{"results":[{"id":"a0","status":"4111"}]}`:                        `job "a0" a status`,
		`{"statuses":[{"entryId":"a0","status":"4111"}]}`:                  `job "a0" a status`,
	} {
		_, failure := service.Decode(call(1), []byte(body), "text/html; charset=utf-8")
		if failure == nil || !strings.Contains(failure.Error(), want) || strings.Contains(failure.Error(), "4111") || strings.Contains(failure.Error(), "Sign in") {
			t.Errorf("%s: got %v, want it to mention %s", body, failure, want)
		}
	}
}

// FuzzDecode looks for panics, for replies that break the contract of jobs.CallResult, and
// for texts that the quick recognizer and the decoder read differently.
func FuzzDecode(f *testing.F) {
	for _, body := range []string{
		"", `{"results":[{"id":"a0","status":"ok"},{"id":"a1","status":"ok"}]}`, `{"results":[{"id":"a0","status":"retry","retry_after":"2s","data":{"a":[1]}}]}`,
		`{"batchItemFailures":[{"itemIdentifier":"a1"}]}`, `{"statuses":[{"entryId":"a0","status":"DROP"}]}`, `{"results":null}`, "\xff",
	} {
		f.Add([]byte(body), "a0", "a1", "application/json")
	}
	decode := service.NewDecoder()
	f.Fuzz(func(t *testing.T, body []byte, id0, id1, contentType string) {
		if !utf8.ValidString(id0) || !utf8.ValidString(id1) {
			t.Skip("jobs.Decode refuses such ids")
		}
		c := call(2)
		c.Jobs[0].ID, c.Jobs[1].ID = id0, id1
		got, failure := decode(c, body, contentType)
		if (failure == nil) == (got == nil) || failure == nil && len(got) != 2 {
			t.Fatalf("got %v and %v", got, failure)
		}
		for _, r := range got {
			if len(r.Error) > 256 || !utf8.ValidString(r.Error) || r.RetryAfter < 0 || r.RetryAfter > time.Minute || r.Data != nil && !json.Valid(r.Data) {
				t.Fatalf("reply %+v", r)
			}
		}
		if service.AllOK(c, body) {
			// A further key sends the same reply to the decoder.
			slow := append([]byte(`{"x":0,`), strings.TrimLeft(string(body), " \t\r\n")[1:]...)
			again, failure := decode(c, slow, contentType)
			if failure != nil || again[0].Status != ok || again[1].Status != ok {
				t.Fatalf("recognized %q, which the decoder reads as %v, %v", body, again, failure)
			}
		}
	})
}

// FuzzPlainEntry holds the recognizer of entries against encoding/json.
func FuzzPlainEntry(f *testing.F) {
	for _, entry := range []string{
		`{"id":"a","status":"ok"}`, ` { "id" : "ä.1" , "status":"retry" } `, `{"id":"a"}`, `{"id":"a\u0062"}`, `{"id":"a","id":"b"}`, `{"id":1}`, `{"ID":"a"}`, `{}`,
		`{"id":"a","status":"fail","error":"x"}`, `{"id":"a","status":"ok","data":{"n":[1, 2]}}`, `{"data":null,"id":"a"}`, `{"id":"a","retry_after":"2s"}`,
		`{"itemIdentifier":"a"}`, `{"entryId":"a","status":"DROP"}`, `{"id":"a","status":null}`,
	} {
		f.Add([]byte(entry))
	}
	f.Fuzz(func(t *testing.T, entry []byte) {
		if entry = bytes.TrimSpace(entry); !jobs.ValidJSON(entry) {
			return
		}
		plain, decoded := service.ReadEntries(entry)
		for i := range plain {
			if !reflect.DeepEqual(plain[i], decoded[i]) {
				t.Errorf("%s is read as %+v; encoding/json: %+v", entry, plain[i], decoded[i])
			}
		}
	})
}

// Entries as most services write them need no encoding/json.
func TestUsualEntriesAreRecognized(t *testing.T) {
	t.Parallel()
	for _, entry := range []string{
		`{"id":"a","status":"ok"}`, `{"id":"a","status":"fail","error":"no"}`, `{"id":"a", "status":"ok", "data":{"n":1}}`, `{"status":"retry","retry_after":2,"id":"a"}`,
		`{"itemIdentifier":"a"}`, `{"entryId":"a","status":"SUCCESS"}`,
	} {
		if plain, _ := service.ReadEntries([]byte(entry)); len(plain) != 1 {
			t.Errorf("%s is left to encoding/json", entry)
		}
	}
}

// The memory of a reply is used again for the next one: what is kept of it is a copy.
func TestNothingOfAReplyIsKeptInItsMemory(t *testing.T) {
	t.Parallel()
	body := []byte(`{"results":[{"id":"a0","status":"ok","data":{"n":1}},{"id":"a1","status":"fail","error":"no such order","\u0064ata":{"n":2}}]}`)
	got, failure := service.NewDecoder()(call(2), body, "application/json")
	if failure != nil {
		t.Fatal(failure)
	}
	for i := range body {
		body[i] = 'x'
	}
	if string(got[0].Data) != `{"n":1}` || string(got[1].Data) != `{"n":2}` || got[1].Error != "no such order" {
		t.Errorf("got %+v", got)
	}
}

func FuzzErrorReply(f *testing.F) {
	f.Add("429", "slow down", "2")
	f.Add("-1", strings.Repeat("\xff", 300), "x")
	f.Add("99999999999999999999", "", "")
	f.Fuzz(func(t *testing.T, code, text, after string) {
		failure := service.ErrorReply(code, text, after)
		if failure.Code < 100 || failure.Code > 999 || failure.Reason == "" || failure.RetryAfter < 0 || failure.RetryAfter > time.Minute {
			t.Errorf("code %q gives %+v", code, failure)
		}
		// The text of the service is cut at 256 bytes; ours is around it.
		if said := failure.Err.Error(); len(said) > 400 || !utf8.ValidString(said) {
			t.Errorf("an error of %d bytes: %q", len(said), said)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	c := call(96)
	var plain, data strings.Builder
	for i := range c.Jobs {
		fmt.Fprintf(&plain, `,{"id":"a%d","status":"ok"}`, i)
		fmt.Fprintf(&data, `,{"id":"a%d","status":"ok","data":{"n":%d}}`, i, i)
	}
	for name, body := range map[string]string{
		"empty": "", "ok": `{"results":[` + plain.String()[1:] + `]}`, "data": `{"results":[` + data.String()[1:] + `]}`,
	} {
		b.Run(name, func(b *testing.B) {
			decode := service.NewDecoder()
			b.ReportAllocs()
			for b.Loop() {
				if _, failure := decode(c, []byte(body), ""); failure != nil {
					b.Fatal(failure)
				}
			}
		})
	}
}
