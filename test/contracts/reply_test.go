package contracts_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"rollcall/internal/jobs"
	"rollcall/internal/service"
)

// TestTheReplySchemaIsTheDecoder: what the schema takes the decoder reads, and what it refuses the
// decoder cannot read.
func TestTheReplySchemaIsTheDecoder(t *testing.T) {
	t.Parallel()
	schema := compile(t, "reply.schema.json", asItIs)
	for body, good := range map[string]bool{
		`{"results":[{"id":"a0","status":"ok","data":{"n":1}},{"id":"a1","status":"retry","error":"busy","retry_after":"2s"},{"id":"a2","status":"fail"}]}`: true,
		`{"results":[]}`:   true,
		`{"results":null}`: true,
		`{"results":[{"id":"e.1","status":"ok"}],"x":1}`:                          true,
		`{"results":[{"id":"a0","status":"retry","retry_after":3,"error":null}]}`: true,
		`{"batchItemFailures":[{"itemIdentifier":"a1"}]}`:                         true,
		`{"batchItemFailures":null}`:                                              true,
		`{"statuses":[{"entryId":"a0","status":"SUCCESS"},{"entryId":"a1","status":"DROP"},{"entryId":"a2","status":"RETRY"}]}`: true,
		`{"queued":3}`: true,
		`[]`:           true,
		`null`:         true,
		`"done"`:       true,
		`{"results":[{"id":"a0","status":"OK"}]}`:            false,
		`{"results":[{"id":"a0"}]}`:                          false,
		`{"results":[{"status":"ok"}]}`:                      false,
		`{"results":[{"id":["a0"],"status":"ok"}]}`:          false,
		`{"results":["a0"]}`:                                 false,
		`{"results":{"a0":"ok"}}`:                            false,
		`{"results":true}`:                                   false,
		`{"results":[{"id":"a0","status":"ok","error":{}}]}`: false,
		`{"results":[],"statuses":[]}`:                       false,
		`{"results":null,"batchItemFailures":null}`:          false,
		`{"batchItemFailures":[{"id":"a1"}]}`:                false,
		`{"batchItemFailures":["a1"]}`:                       false,
		`{"statuses":[{"entryId":"a0","status":"success"}]}`: false,
		`{"statuses":[{"entryId":"a0"}]}`:                    false,
		`{"statuses":7}`:                                     false,
	} {
		if err := schema.Validate(decode(t, []byte(body))); (err == nil) != good {
			t.Errorf("the schema says of %s: %v", body, err)
		}
		if failure := call(t, body).Failure; (failure == nil) != good {
			t.Errorf("the decoder says of %s: %v", body, failure)
		}
	}
}

// call lets a service answer a call for a0, a1 and a2.
func call(t *testing.T, body string) jobs.CallResult {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }))
	defer server.Close()
	s, err := service.New("billing", server.URL, service.Config{Timeout: limit, Tries: 1, Concurrency: 1, MaxReply: jobs.MiB, Method: http.MethodPost}, service.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var list []*jobs.Job
	for i, id := range []string{"a0", "a1", "a2"} {
		j := jobs.Decode(jobs.Delivery{Subject: "jobs.x", Source: "/x", Ref: jobs.Ref{Epoch: "e", Seq: uint64(i + 1)}, Header: map[string][]string{"Nats-Msg-Id": {id}}}, 0)
		list = append(list, &j)
	}
	return s.Call(t.Context(), &jobs.Call{BatchID: "b", Pool: "p", Service: "billing", Key: "b:billing", Jobs: list, Body: jobs.AppendCall(nil, list)})
}

// TestTheExamplesOfTheServicesPageAreReplies reads every JSON block of the page that is a reply.
func TestTheExamplesOfTheServicesPageAreReplies(t *testing.T) {
	t.Parallel()
	schema := compile(t, "reply.schema.json", asItIs)
	found := 0
	for _, block := range blocks(t, "../../docs/services.md", "json") {
		if !json.Valid([]byte(block)) || !strings.HasPrefix(block, "{") {
			continue
		}
		found++
		if err := schema.Validate(decode(t, []byte(block))); err != nil {
			t.Errorf("%v:\n%s", err, block)
		}
	}
	if found < 3 {
		t.Errorf("the page shows %d replies, want one of each dialect", found)
	}
}
