package jobs_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"rollcall/internal/jobs"
)

func TestPageRemembersWhatWasWritten(t *testing.T) {
	t.Parallel()
	tried := jobs.Record{Attempts: 2, Seen: 5, Since: 3, Lone: 1, Group: 12, OK: []string{"billing", "search"}}
	p := jobs.Page{}.With(3, tried).With(0, jobs.Record{Final: true}).With(15, jobs.Record{Seen: 1})

	got, err := jobs.DecodePage(p.Append(nil))
	if err != nil {
		t.Fatalf("decode: %v", err)
	}
	for offset, want := range map[int]jobs.Record{0: {Final: true}, 1: {}, 3: tried, 15: {Seen: 1}} {
		if diff := cmp.Diff(want, got.Record(offset)); diff != "" {
			t.Errorf("record %d (-want +got):\n%s", offset, diff)
		}
	}
}

func TestPageWithLeavesTheReceiverAlone(t *testing.T) {
	t.Parallel()
	before := jobs.Page{}.With(5, jobs.Record{Attempts: 1})
	_ = before.With(5, jobs.Record{Attempts: 9})
	_ = before.With(5, jobs.Record{Final: true})
	if got := before.Record(5); got.Attempts != 1 || got.Final {
		t.Errorf("the page changed under its holder: %+v", got)
	}
}

func TestFinalPageIsSmall(t *testing.T) {
	t.Parallel()
	var p jobs.Page
	for offset := range jobs.PageSize {
		p = p.With(offset, jobs.Record{Attempts: 4, OK: []string{"a"}}).With(offset, jobs.Record{Final: true})
	}
	if n := len(p.Append(nil)); n != 1+jobs.PageSize/8 {
		t.Errorf("a page of final jobs takes %d bytes", n)
	}
}

func TestDecodePageRefusesDamage(t *testing.T) {
	t.Parallel()
	sound := jobs.Page{}.With(3, jobs.Record{Attempts: 300, OK: []string{"a", "b"}}).With(9, jobs.Record{Seen: 1}).Append(nil)
	header := len(jobs.Page{}.Append(nil))
	second := header + len(jobs.Page{}.With(3, jobs.Record{Attempts: 300, OK: []string{"a", "b"}}).Append(nil)) - header
	for n := range len(sound) {
		_, err := jobs.DecodePage(sound[:n])
		if whole := n == header || n == second; whole != (err == nil) || err != nil && !errors.Is(err, jobs.ErrPage) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
	other := bytes.Clone(sound)
	other[0] = 9
	if _, err := jobs.DecodePage(other); !errors.Is(err, jobs.ErrPage) {
		t.Errorf("another version: %v", err)
	}
}

func TestRefFindsItsPage(t *testing.T) {
	t.Parallel()
	page, offset := jobs.Ref{Seq: 35}.Page()
	if page != 2 || offset != 3 {
		t.Errorf("sequence 35 is on page %d at %d, want 2 at 3", page, offset)
	}
}

// TestPageBehavesLikeAMap drives a page and a plain map with the same writes.
func TestPageBehavesLikeAMap(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var page jobs.Page
		model := map[int]jobs.Record{}
		t.Repeat(map[string]func(*rapid.T){
			"write": func(t *rapid.T) {
				offset := rapid.IntRange(0, jobs.PageSize-1).Draw(t, "offset")
				if model[offset].Final {
					return
				}
				r := drawRecord(t)
				page, model[offset] = page.With(offset, r), r
			},
			"store and load": func(t *rapid.T) {
				decoded, err := jobs.DecodePage(page.Append(nil))
				if err != nil {
					t.Fatalf("decode: %v", err)
				}
				page = decoded
			},
			"": func(t *rapid.T) {
				for offset := range jobs.PageSize {
					if diff := cmp.Diff(model[offset], page.Record(offset)); diff != "" {
						t.Fatalf("offset %d (-model +page):\n%s", offset, diff)
					}
				}
			},
		})
	})
}

func drawRecord(t *rapid.T) jobs.Record {
	if rapid.Bool().Draw(t, "final") {
		return jobs.Record{Final: true}
	}
	names := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "billing", "search"}), 0, 3, rapid.ID).Draw(t, "ok")
	slices.Sort(names)
	if len(names) == 0 {
		names = nil
	}
	count := rapid.IntRange(0, 1000)
	return jobs.Record{Attempts: count.Draw(t, "attempts"), Seen: count.Draw(t, "seen"), Since: count.Draw(t, "since"), Lone: count.Draw(t, "lone"), Group: count.Draw(t, "group"), OK: names}
}

func FuzzDecodePage(f *testing.F) {
	f.Add(jobs.Page{}.Append(nil))
	f.Add(jobs.Page{}.With(3, jobs.Record{Attempts: 300, OK: []string{"a", "b"}}).Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := jobs.DecodePage(b)
		if err != nil {
			return
		}
		again, err := jobs.DecodePage(p.Append(nil))
		if err != nil || !cmp.Equal(fmt.Sprint(p), fmt.Sprint(again)) {
			t.Errorf("decoded %v, encoded and decoded %v: %v", p, again, err)
		}
	})
}
