package jobs_test

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"rollcall/internal/jobs"
)

func TestClipKeepsItsBoundWhateverTheBytes(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "short", strings.Repeat("é", 100), strings.Repeat("\xff", 100), "a" + strings.Repeat("€", 40) + "\xe2\x82"} {
		got := jobs.Clip(s, 16)
		if len(got) > 16 || !utf8.ValidString(got) {
			t.Errorf("Clip(%q, 16) = %q, %d bytes", s, got, len(got))
		}
		if len(s) <= 16 && utf8.ValidString(s) && got != s {
			t.Errorf("Clip(%q, 16) = %q although it fits", s, got)
		}
	}
}

func FuzzClip(f *testing.F) {
	f.Add("\xff\xff€", 4)
	f.Fuzz(func(t *testing.T, s string, n int) {
		if n < 0 || n > 1<<10 {
			t.Skip("limits are small constants")
		}
		if got := jobs.Clip(s, n); len(got) > n || !utf8.ValidString(got) {
			t.Errorf("Clip(%q, %d) = %q", s, n, got)
		}
	})
}

func FuzzDecodeEvent(f *testing.F) {
	j := jobs.Decode(delivered("{}", nil), time.Hour)
	s := &jobs.Settlement{
		Batch:    &jobs.Batch{ID: "b", Pool: "default", Jobs: []*jobs.Job{&j}},
		Rulings:  []jobs.Ruling{{Outcome: jobs.Failed, Reason: "x"}},
		Services: []jobs.ServiceReport{{Name: "billing"}},
		Replies:  []jobs.Replies{{&jobs.Reply{Status: jobs.StatusFail, Data: []byte("1")}}},
	}
	s.EncodeEvent(1 << 20)
	f.Add(s.Event)
	f.Add([]byte(`{"type":"rollcall.batch.settled.v1","data":{"jobs":[{"outcome":"retrying"}]}}`))
	f.Add([]byte(`{"type":"\ud800"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := jobs.DecodeEvent(b)
		if err != nil {
			if len(err.Error()) > 512 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
			return
		}
		if e.Type != jobs.EventType {
			t.Errorf("type %q was taken for an event", e.Type)
		}
	})
}

func FuzzParseUID(f *testing.F) {
	for _, s := range []string{"dk3x0q1z7f4w.42", "e.007", ".1", "e.", "E.1", "e.1.2", "e.18446744073709551616"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ref, err := jobs.ParseUID(s)
		if err != nil {
			return
		}
		if again, err := jobs.ParseUID(ref.UID()); err != nil || again != ref {
			t.Errorf("%q is %+v, whose uid reads as %+v, %v", s, ref, again, err)
		}
	})
}
