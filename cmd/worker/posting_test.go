package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

)

func compose(t *testing.T, subject string, f postingFlags, numbered bool, now time.Time) *posting {
	t.Helper()
	p, err := newPosting(subject, &f, numbered, now)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestAJobCarriesItsIDDeadlineAndHeaders(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	p := compose(t, "jobs.mail", postingFlags{id: "m", deadline: "10m", headers: []string{"A: 1", "A:2", "Content-Type:text/plain; charset=utf-8"}}, false, now)
	want := &nats.Msg{
		Subject: "jobs.mail", Data: []byte("x"),
		Header: nats.Header{
			"Nats-Msg-Id": {"m"}, "Rollcall-Deadline": {"2026-01-31T12:10:00Z"},
			"A": {"1", "2"}, "Content-Type": {"text/plain; charset=utf-8"},
		},
	}
	got := p.message(1, []byte("x"))
	if got.Subject != want.Subject || string(got.Data) != "x" {
		t.Errorf("got %s %q", got.Subject, got.Data)
	}
	if diff := cmp.Diff(want.Header, got.Header); diff != "" {
		t.Error(diff)
	}
}

func TestSeveralJobsGetNumberedIDs(t *testing.T) {
	t.Parallel()
	p := compose(t, "jobs.x", postingFlags{id: "import"}, true, time.Now())
	for n := 1; n <= 2; n++ {
		if got, want := p.message(n, nil).Header.Get("Nats-Msg-Id"), fmt.Sprintf("import-%d", n); got != want {
			t.Errorf("got id %q, want %q", got, want)
		}
	}
}

func TestADelayedJobIsAScheduleForItsSubject(t *testing.T) {
	t.Parallel()
	before := time.Now()
	m := compose(t, "jobs.x", postingFlags{id: "a", delay: time.Hour}, false, before).message(1, nil)
	at, err := time.Parse("@at "+time.RFC3339Nano, m.Header.Get("Nats-Schedule"))
	if err != nil || at.Before(before.Add(time.Hour)) || at.After(time.Now().Add(time.Hour)) {
		t.Errorf("schedule %q: %v", m.Header.Get("Nats-Schedule"), err)
	}
	if m.Subject != "later.a" || m.Header.Get("Nats-Schedule-Target") != "due.x" || m.Header.Get("ce-id") != "a" {
		t.Errorf("got %s %v", m.Subject, m.Header)
	}
	p := compose(t, "jobs.x", postingFlags{delay: time.Hour}, false, before)
	if a, b := p.message(1, nil), p.message(2, nil); a.Subject == b.Subject || a.Subject != "later."+messageID(a) {
		t.Errorf("two delayed jobs without an id: %s and %s; the second would replace the first", a.Subject, b.Subject)
	}
}

func TestWhatCannotBeAJobIsRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		subject string
		flags   postingFlags
		says    string
	}{
		"wildcard":           {"jobs.*", postingFlags{}, "wildcards"},
		"rest wildcard":      {"jobs.>", postingFlags{}, "wildcards"},
		"blank":              {"jobs. mail", postingFlags{}, "blanks"},
		"line end":           {"jobs.mail\r\nPUB x 0", postingFlags{}, "blanks"},
		"empty":              {"", postingFlags{}, "between the dots"},
		"empty word":         {"jobs..mail", postingFlags{}, "between the dots"},
		"dot at the end":     {"jobs.", postingFlags{}, "between the dots"},
		"too long":           {"jobs." + strings.Repeat("a", 2044), postingFlags{}, "2049 bytes"},
		"negative delay":     {"jobs.x", postingFlags{delay: -1}, "--delay"},
		"header":             {"jobs.x", postingFlags{headers: []string{"none"}}, "Name:value"},
		"header name":        {"jobs.x", postingFlags{headers: []string{" :v"}}, "Name:value"},
		"header injection":   {"jobs.x", postingFlags{headers: []string{"A:b\r\nNats-Msg-Id: c"}}, "Name:value"},
		"rollup":             {"jobs.x", postingFlags{headers: []string{"nats-rollup: all"}}, "orders to the server"},
		"message id":         {"jobs.x", postingFlags{headers: []string{"Nats-Msg-Id:a"}}, "--id"},
		"schedule":           {"jobs.x", postingFlags{headers: []string{"Nats-Schedule:@every 1s"}}, "--delay"},
		"delay elsewhere":    {"mail.x", postingFlags{delay: 1}, "jobs.>"},
		"deadline":           {"jobs.x", postingFlags{deadline: "soon"}, "--deadline"},
		"deadline gone":      {"jobs.x", postingFlags{deadline: "-5m"}, "--deadline"},
		"id with a line end": {"jobs.x", postingFlags{id: "a\nb"}, "--id"},
		"id no subject":      {"jobs.x", postingFlags{id: "a b", delay: 1}, "--id of a delayed job"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := newPosting(c.subject, &c.flags, false, time.Now()); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want an error with %q", err, c.says)
			}
		})
	}
	if _, err := newPosting("jobs."+strings.Repeat("a", 2043), &postingFlags{}, false, time.Now()); err != nil {
		t.Errorf("the longest subject: %v", err)
	}
}

func TestADeadlineMayBeAPointInTime(t *testing.T) {
	t.Parallel()
	got, err := parseDeadline("2026-01-31T12:00:00.5+01:00", time.Now())
	if want := time.Date(2026, 1, 31, 11, 0, 0, 5e8, time.UTC); err != nil || !got.Equal(want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
}

func TestLinesAreJobs(t *testing.T) {
	t.Parallel()
	in := "{\"n\":1}\r\n\n  [2]  \n\"three\""
	var got []string
	for body, err := range lines(t.Context(), strings.NewReader(in)) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(body))
	}
	if diff := cmp.Diff([]string{`{"n":1}`, `[2]`, `"three"`}, got); diff != "" {
		t.Error(diff)
	}
}

func TestALineThatIsNotJSONIsNamed(t *testing.T) {
	t.Parallel()
	n := 0
	for _, err := range lines(t.Context(), strings.NewReader("{}\n{\n{}\n")) {
		if n++; n == 2 && (err == nil || !strings.Contains(err.Error(), "line 2")) {
			t.Errorf("got %v, want an error that names line 2", err)
		}
	}
	if n != 2 {
		t.Errorf("%d lines were read, want 2", n)
	}
}

func TestLinesEndWithTheirContextWhileReadingBlocks(t *testing.T) {
	t.Parallel()
	in, typed := io.Pipe()
	defer typed.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range lines(ctx, in) {
		t.Error("a job out of nothing")
	}
}

func TestLinesCanBeLeftEarly(t *testing.T) {
	t.Parallel()
	for range lines(t.Context(), strings.NewReader("1\n2\n3\n")) {
		break // goleak sees a reader that stays behind
	}
}

func TestPaceSpreadsItemsOverTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begun, n := time.Now(), 0
		for _, err := range pace(t.Context(), 20, repeat([]byte("x"), 41)) {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		if took := time.Since(begun); n != 41 || took != 2*time.Second {
			t.Errorf("%d items took %v, want 41 in 2s", n, took)
		}
	})
}

func TestPaceEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := 0
	for range pace(ctx, minRate, repeat([]byte("x"), 3)) {
		n++
		cancel()
	}
	if n != 1 {
		t.Errorf("%d items, want 1: the next is due in a quarter of an hour", n)
	}
}
