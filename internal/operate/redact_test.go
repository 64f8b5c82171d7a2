package operate_test

import (
	"strings"
	"testing"

	"rollcall/internal/jobs"
	"rollcall/internal/operate"
)

const storedEvent = `{"type":"rollcall.batch.settled.v1","data":{"batch_id":"b1","key":"cust-9","counts":{"total":2,"failed":1},` +
	`"services":[{"name":"billing","error":"no such \"ann\"","extra":1},{"name":"index","error":"slow for bob"}],` +
	`"jobs":[{"id":"ann","uid":"e.1","outcome":"failed","attempt":2,"reason":"no ann","services":{"billing":"fail","index":"ok"}},` +
	`{"id":"bob","uid":"e.2","outcome":"retrying","attempt":1,"services":{"billing":"ok","index":"retry"}}]}}`

func TestRedacted_KeepsWhatIsOfOthers(t *testing.T) {
	t.Parallel()
	first, err := operate.Redacted([]byte(storedEvent), map[string]bool{"e.1": true})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(first), "ann") {
		t.Errorf("still there: %s", first)
	}
	for _, kept := range []string{
		`"key":"cust-9"`, `{"name":"billing","error":"","extra":1}`, `{"name":"index","error":"slow for bob"}`, `"truncated":true,"counts":{"total":2,"failed":1}`,
		`{"uid":"e.1","outcome":"failed","attempt":2,"erased":true}`, `{"id":"bob","uid":"e.2","outcome":"retrying","attempt":1,"services":{"billing":"ok","index":"retry"}}`,
	} {
		if !strings.Contains(string(first), kept) {
			t.Errorf("%s is missing: %s", kept, first)
		}
	}
	second, err := operate.Redacted(first, map[string]bool{"e.2": true})
	if err != nil {
		t.Fatal(err)
	}
	event, err := jobs.DecodeEvent(second)
	if err != nil || event.Data.Key != "" || event.Data.Services[1].Error != "" || strings.Contains(string(second), "bob") {
		t.Errorf("after the last of its jobs, %v: %s", err, second)
	}
}
