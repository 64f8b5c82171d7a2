package main

import (
	"bytes"
	"strings"
	"testing"

	"rollcall/internal/operate"
)

func TestTheFeedSumsUpASecond(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	f := newFeed(&out, nil)
	f.print()
	if out.Len() > 0 {
		t.Errorf("nothing happened, and it says %q", &out)
	}
	env := `{"type":"rollcall.batch.settled.v1","data":{"counts":{"total":4,"succeeded":1,"failed":1,"invalid":1,"retrying":1},"jobs":[{"outcome":"failed","reason":"\u001b[31mdeclined"}]}}`
	for range 2 {
		if err := f.hear(operate.Event{Data: []byte(env)}); err != nil {
			t.Fatal(err)
		}
	}
	f.print()
	if got := out.String(); !strings.HasSuffix(got, "  2 succeeded, 4 failed, 2 to be retried, in 2 batches; last reason:  [31mdeclined\n") {
		t.Errorf("got %q", got)
	}
	out.Reset()
	f.print()
	if out.Len() > 0 {
		t.Errorf("it repeats itself: %q", &out)
	}
}
