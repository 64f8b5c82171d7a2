package operate_test

import (
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"rollcall/internal/jobs"
	"rollcall/internal/operate"
)

// noon is what the broker's clock says, years away from this machine's.
var noon = time.Date(2031, 1, 31, 12, 0, 0, 0, time.UTC)

func bodies(n int) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for range n {
			if !yield([]byte("x"), nil) {
				return
			}
		}
	}
}

// made returns the n jobs that a posting makes at noon of the broker's clock.
func made(t *testing.T, p operate.Posting, n int) []*nats.Msg {
	t.Helper()
	if err := p.Prepare(); err != nil {
		t.Fatal(err)
	}
	var all []*nats.Msg
	for m, err := range p.Messages(operate.NewClock(noon), bodies(n)) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	return all
}

func later(t *testing.T, text string) operate.Point {
	t.Helper()
	p, err := operate.Later("deadline", text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// about fails unless a header is a time within a minute after want: the broker's clock goes on.
func about(t *testing.T, what, layout, text string, want time.Time) {
	t.Helper()
	at, err := time.Parse(layout, text)
	if err != nil || at.Before(want) || at.After(want.Add(time.Minute)) {
		t.Errorf("%s is %q, want %v by the broker's clock: %v", what, text, want, err)
	}
}

func TestAJobCarriesItsIDDeadlineAndHeaders(t *testing.T) {
	t.Parallel()
	m := made(t, operate.Posting{
		Subject: "jobs.mail", ID: "m", Deadline: later(t, "10m"), Headers: []string{"A: 1", "A:2", "Content-Type:text/plain; charset=utf-8"},
	}, 1)[0]
	about(t, "the deadline", time.RFC3339Nano, m.Header.Get("Rollcall-Deadline"), noon.Add(10*time.Minute))
	m.Header.Del("Rollcall-Deadline")
	want := nats.Header{"Nats-Msg-Id": {"m"}, "A": {"1", "2"}, "Content-Type": {"text/plain; charset=utf-8"}}
	if diff := cmp.Diff(want, m.Header); diff != "" || m.Subject != "jobs.mail" || string(m.Data) != "x" {
		t.Errorf("got %s %q %s", m.Subject, m.Data, diff)
	}
}

func TestSeveralJobsGetNumberedIDs(t *testing.T) {
	t.Parallel()
	for n, m := range made(t, operate.Posting{Subject: "jobs.x", ID: "import", Numbered: true}, 2) {
		if got, want := m.Header.Get("Nats-Msg-Id"), fmt.Sprintf("import-%d", n+1); got != want {
			t.Errorf("got id %q, want %q", got, want)
		}
	}
}

func TestADelayedJobIsAScheduleByTheBrokersClock(t *testing.T) {
	t.Parallel()
	m := made(t, operate.Posting{Subject: "jobs.x", ID: "a", Delay: time.Hour}, 1)[0]
	about(t, "the schedule", "@at "+time.RFC3339Nano, m.Header.Get("Nats-Schedule"), noon.Add(time.Hour))
	if m.Subject != "later.a" || m.Header.Get("Nats-Schedule-Target") != "due.x" || m.Header.Get("ce-id") != "a" {
		t.Errorf("got %s %v", m.Subject, m.Header)
	}
	two := made(t, operate.Posting{Subject: "jobs.x", Delay: time.Hour}, 2)
	if two[0].Subject == two[1].Subject || two[0].Subject != "later."+operate.MessageID(two[0]) {
		t.Errorf("two delayed jobs without an id: %s and %s; the second would replace the first", two[0].Subject, two[1].Subject)
	}
}

// TestADelayedJobKeepsTheIDOfItsProducer, by which its event is recognised.
func TestADelayedJobKeepsTheIDOfItsProducer(t *testing.T) {
	t.Parallel()
	const structured = `{"specversion":"1.0","id":"ce9","source":"/x","type":"t","data":{"a":1}}`
	for name, c := range map[string]struct {
		posting operate.Posting
		body    string
		want    string
	}{
		"a header":                    {operate.Posting{Headers: []string{"ce-id:foo"}}, "x", "foo"},
		"a header in other letters":   {operate.Posting{Headers: []string{"CE-ID:foo"}}, "x", "foo"},
		"a header beside --id":        {operate.Posting{Headers: []string{"ce-id:foo"}, ID: "bar"}, "x", "foo"},
		"a CloudEvent in the body":    {operate.Posting{Headers: []string{"Content-Type:application/cloudevents+json"}}, structured, "ce9"},
		"--id alone":                  {operate.Posting{ID: "bar"}, "x", "bar"},
		"a body that is no structure": {operate.Posting{ID: "bar"}, structured, "bar"},
	} {
		p := c.posting
		p.Subject, p.Delay = "jobs.x", time.Hour
		if err := p.Prepare(); err != nil {
			t.Fatal(err)
		}
		for m, err := range p.Messages(operate.NewClock(noon), func(yield func([]byte, error) bool) { yield([]byte(c.body), nil) }) {
			if err != nil {
				t.Fatal(err)
			}
			due := jobs.Decode(jobs.Delivery{Subject: m.Subject, Header: withoutServers(m.Header), Data: m.Data}, 0)
			if due.ID != c.want || operate.MessageID(m) != c.want {
				t.Errorf("%s: once due it is %q, and a wait looks for %q; want %q", name, due.ID, operate.MessageID(m), c.want)
			}
		}
	}
}

// withoutServers returns the headers that a job keeps when it is due.
func withoutServers(h nats.Header) nats.Header {
	kept := nats.Header{}
	for name, values := range h {
		if !strings.HasPrefix(name, "Nats-") {
			kept[name] = values
		}
	}
	return kept
}

func TestWhatCannotBeAJobIsRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		posting operate.Posting
		says    string
	}{
		"wildcard":           {operate.Posting{Subject: "jobs.*"}, "wildcards"},
		"rest wildcard":      {operate.Posting{Subject: "jobs.>"}, "wildcards"},
		"blank":              {operate.Posting{Subject: "jobs. mail"}, "blanks"},
		"line end":           {operate.Posting{Subject: "jobs.mail\r\nPUB x 0"}, "blanks"},
		"empty":              {operate.Posting{Subject: ""}, "between the dots"},
		"empty word":         {operate.Posting{Subject: "jobs..mail"}, "between the dots"},
		"dot at the end":     {operate.Posting{Subject: "jobs."}, "between the dots"},
		"too long":           {operate.Posting{Subject: "jobs." + strings.Repeat("a", 2044)}, "2049 bytes"},
		"negative delay":     {operate.Posting{Subject: "jobs.x", Delay: -1}, "--delay"},
		"header":             {operate.Posting{Subject: "jobs.x", Headers: []string{"none"}}, "Name:value"},
		"header name":        {operate.Posting{Subject: "jobs.x", Headers: []string{" :v"}}, "Name:value"},
		"header injection":   {operate.Posting{Subject: "jobs.x", Headers: []string{"A:b\r\nNats-Msg-Id: c"}}, "Name:value"},
		"rollup":             {operate.Posting{Subject: "jobs.x", Headers: []string{"nats-rollup: all"}}, "orders to the server"},
		"message id":         {operate.Posting{Subject: "jobs.x", Headers: []string{"Nats-Msg-Id:a"}}, "--id"},
		"schedule":           {operate.Posting{Subject: "jobs.x", Headers: []string{"Nats-Schedule:@every 1s"}}, "--delay"},
		"delay elsewhere":    {operate.Posting{Subject: "mail.x", Delay: 1}, "jobs.>"},
		"id with a line end": {operate.Posting{Subject: "jobs.x", ID: "a\nb"}, "--id"},
		"id no subject":      {operate.Posting{Subject: "jobs.x", ID: "a b", Delay: 1}, "--id of a delayed job"},
		"expires delayed":    {operate.Posting{Subject: "jobs.x", Delay: 2 * time.Hour, Deadline: later(t, "1h")}, "before it is handed out"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := c.posting.Prepare(); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want an error with %q", err, c.says)
			}
		})
	}
	longest := operate.Posting{Subject: "jobs." + strings.Repeat("a", 2043)}
	if err := longest.Prepare(); err != nil {
		t.Errorf("the longest subject: %v", err)
	}
}

func TestAJobThatWouldExpireBeforeItIsHandedOutIsRefused(t *testing.T) {
	t.Parallel()
	p := operate.Posting{Subject: "jobs.x", Delay: 2 * time.Hour, Deadline: later(t, "2031-01-31T13:00:00Z")}
	if err := p.Prepare(); err != nil {
		t.Fatal(err)
	}
	for _, err := range p.Messages(operate.NewClock(noon), bodies(1)) {
		if !errors.Is(err, operate.ErrTooLate) {
			t.Errorf("at noon, with a deadline at one and a delay of two hours: %v, want ErrTooLate", err)
		}
	}
}

func TestPointsAreTimesOrDistances(t *testing.T) {
	t.Parallel()
	type read func(flag, text string) (operate.Point, error)
	for _, c := range []struct {
		read read
		text string
		want time.Time
	}{
		{operate.Later, "10m", noon.Add(10 * time.Minute)}, {operate.Earlier, "10m", noon.Add(-10 * time.Minute)},
		{operate.Later, "2026-01-31T12:00:00.5+01:00", time.Date(2026, 1, 31, 11, 0, 0, 5e8, time.UTC)}, {operate.Later, "", time.Time{}},
	} {
		if p, err := c.read("at", c.text); err != nil || !p.From(noon).Equal(c.want) || p.IsZero() != c.want.IsZero() {
			t.Errorf("%q is %v, %v; want %v", c.text, p.From(noon), err, c.want)
		}
	}
	for _, text := range []string{"soon", "-5m", "0s", "5"} {
		if _, err := operate.Later("until", text); err == nil || !strings.Contains(err.Error(), "--until") {
			t.Errorf("%q: %v, want an error that names --until", text, err)
		}
	}
}
