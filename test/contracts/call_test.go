package contracts_test

import (
	"testing"
	"time"

	"rollcall/internal/jobs"
)

// TestACallIsAsItsSchemaSaysWhateverAJobHolds: one job out of shape would have a strict service
// refuse its whole batch.
func TestACallIsAsItsSchemaSaysWhateverAJobHolds(t *testing.T) {
	t.Parallel()
	schema := compile(t, "call.schema.json", closed)
	const structured = `{"specversion":"1.0","id":"1","source":"/s","type":"t",`
	for what, job := range map[string]struct {
		body    string
		headers []string // name and value in turn
	}{
		"nothing":                     {"", nil},
		"a body that is JSON null":    {"null", nil},
		"text under a JSON type":      {"{", []string{"Content-Type", "application/json"}},
		"bytes":                       {"\xff", nil},
		"a time that is none":         {"1", []string{"ce-specversion", "1.0", "ce-time", "yesterday"}},
		"a time in lower case":        {"1", []string{"ce-time", "2026-01-31t12:00:00z"}},
		"a leap second":               {"1", []string{"ce-time", "2016-12-31T23:59:60Z"}},
		"a dataschema that is no URI": {"1", []string{"ce-dataschema", "::no uri::%zz"}},
		"names that are not allowed":  {"1", []string{"ce-Tenant_Id", "acme", "ce-ü", "x", "ce-", "y"}},
		"ours, forged":                {"1", []string{"ce-rollcalluid", "x", "ce-rollcallattempt", "-1", "ce-rollcallset", "a b"}},
		"a trace that is none":        {"1", []string{"traceparent", "zz", "tracestate", "x"}},
		"a number with a fraction":    {structured + `"score":1.5}`, []string{"Content-Type", jobs.MediaEvent}},
		"a number beyond 32 bits":     {structured + `"big":123456789012}`, []string{"Content-Type", jobs.MediaEvent}},
		"an exponent":                 {structured + `"big":1e400}`, []string{"Content-Type", jobs.MediaEvent}},
		"an extension that is null":   {structured + `"none":null,"list":[1],"map":{"a":1}}`, []string{"Content-Type", jobs.MediaEvent}},
		"attributes of other types":   {structured + `"subject":5,"time":6,"dataschema":7,"datacontenttype":8,"traceparent":9,"tracestate":true,"data":1}`, []string{"Content-Type", jobs.MediaEvent}},
		"an empty subject":            {structured + `"subject":"","dataschema":""}`, []string{"Content-Type", jobs.MediaEvent}},
		"data that is null":           {structured + `"data":null}`, []string{"Content-Type", jobs.MediaEvent}},
		"a set and a deadline":        {"1", []string{"Rollcall-Set", "s", "Rollcall-Set-Size", "2", "Rollcall-Deadline", "2099-01-01T00:00:00Z"}},
	} {
		header := map[string][]string{}
		for i := 0; i < len(job.headers); i += 2 {
			header[job.headers[i]] = []string{job.headers[i+1]}
		}
		j := jobs.Decode(jobs.Delivery{
			Subject: "jobs.x", Source: "/rollcall/JOBS/e", Ref: jobs.Ref{Epoch: "e", Seq: 1}, Data: []byte(job.body), Header: header, Published: time.Now(),
		}, time.Hour)
		if j.Verdict != nil {
			t.Errorf("%s: the job is invalid: %s", what, j.Verdict.Reason)
			continue
		}
		call := jobs.AppendCall(nil, []*jobs.Job{&j})
		if err := schema.Validate(decode(t, call)); err != nil {
			t.Errorf("%s: %v\n%s", what, err, call)
		}
	}
}
