//go:build fault && linux

package fault_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/faulttest"
)

// recipes reads the messages that docs/producing.md publishes by the nats CLI, by their subjects.
func recipes(t *testing.T) map[string]*nats.Msg {
	t.Helper()
	text, err := os.ReadFile("../../docs/producing.md")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]*nats.Msg{}
	for line := range strings.Lines(string(text)) {
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), "nats pub --jetstream ")
		if !ok {
			continue
		}
		words := shellWords(rest)
		m := &nats.Msg{Subject: words[0], Data: []byte(words[1]), Header: nats.Header{}}
		for i := 2; i+1 < len(words); i += 2 {
			name, value, _ := strings.Cut(words[i+1], ":")
			m.Header[name] = append(m.Header[name], value)
		}
		found[m.Subject] = m
	}
	return found
}

// shellWords splits a line at blanks outside of single quotes.
func shellWords(line string) (words []string) {
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			words = append(words, part)
			continue
		}
		words = append(words, strings.Fields(part)...)
	}
	return words
}

// dueSoon is a recipe whose time has nearly come.
func dueSoon(m *nats.Msg, after time.Duration) *nats.Msg {
	soon := *m
	soon.Header = nats.Header{}
	for name, values := range m.Header {
		soon.Header[name] = values
	}
	soon.Header.Set("Nats-Schedule", "@at "+time.Now().Add(after).UTC().Format(time.RFC3339Nano))
	return &soon
}

// TestTheRecipesOfProducers: every message that docs/producing.md shows does what the page says, on
// one broker and on three.
func TestTheRecipesOfProducers(t *testing.T) {
	t.Parallel()
	t.Run("one broker", func(t *testing.T) {
		t.Parallel()
		broker := faulttest.StartBroker(t, faulttest.BrokerOptions{})
		s := faulttest.NewScenario(t, program, broker.URL, []string{"billing"})
		s.Setup()
		cook(t, s, 10071)
	})
	t.Run("three", func(t *testing.T) {
		t.Parallel()
		_, s := onThreeNodes(t, "billing")
		cook(t, s, 10071, 10164)
	})
}

// cook publishes the recipes as they are documented. open are the errors of a key that is open.
func cook(t *testing.T, s *faulttest.Scenario, open ...jetstream.ErrorCode) {
	list := recipes(t)
	publish := func(m *nats.Msg) (*jetstream.PubAck, error) { return s.JS.PublishMsg(t.Context(), m) }
	accepted := func(m *nats.Msg) *jetstream.PubAck {
		t.Helper()
		ack, err := publish(m)
		if err != nil {
			t.Fatalf("publish %s %v: %v", m.Subject, m.Header, err)
		}
		return ack
	}
	refused := func(err error) bool {
		var refusal *jetstream.APIError
		if !errors.As(err, &refusal) {
			return false
		}
		for _, code := range open {
			if refusal.ErrorCode == code {
				return true
			}
		}
		return false
	}

	mail, unique := list["jobs.mail"], list["jobs.sync.tenant-4"]
	if first, second := accepted(mail), accepted(mail); first.Duplicate || !second.Duplicate {
		t.Errorf("the same job twice: %+v, then %+v; want the second dropped", first, second)
	}
	// Nothing works yet, so the first of these stays open.
	const rivals = 20
	var racing sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for range rivals {
		racing.Go(func() {
			_, err := publish(unique)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				won++
			case !refused(err):
				t.Errorf("a second job of the key: %v, want one of the errors %v", err, open)
			}
		})
	}
	racing.Wait()
	if won != 1 {
		t.Errorf("%d of %d jobs of one key were accepted at once", won, rivals)
	}
	reminder, debounce := list["later.reminder-7"], list["later.debounce.tenant-4"]
	accepted(reminder)
	accepted(dueSoon(reminder, time.Second))
	for i := range 5 {
		burst := dueSoon(debounce, 2*time.Second)
		burst.Header.Set("ce-id", fmt.Sprint("burst-", i))
		accepted(burst)
	}
	nightly := list["later.cron.nightly"]
	accepted(nightly)
	often := dueSoon(nightly, 0)
	often.Header.Set("Nats-Schedule", "* * * * * *")
	accepted(often)
	if n := state(t, s, "LATER").Msgs; n > 8 {
		t.Errorf("LATER holds %d messages: a schedule does not replace the one before", n)
	}

	s.Start()
	count := func(subject string) (n int) {
		for _, uids := range ended(t, s, subject) {
			n += len(uids)
		}
		return n
	}
	faulttest.Until(t, clusterPatience, "every recipe has come to its end", func() bool {
		return count("jobs.mail") == 2 && count("jobs.sync.tenant-4") == 1 && count("jobs.reindex") == 1 && count("jobs.report") >= 3
	})
	if found := ended(t, s, "jobs.reindex"); len(found["burst-4"]) != 1 || len(found) != 1 {
		t.Errorf("of a burst these were done: %v; want the last", found)
	}
	faulttest.Until(t, clusterPatience, "the key is free once its job has ended", func() bool {
		_, err := publish(unique)
		return err == nil
	})
	faulttest.Until(t, clusterPatience, "the job of the freed key is done", func() bool { return count("jobs.sync.tenant-4") == 2 })
	if n := count("jobs.mail"); n != 2 {
		t.Errorf("%d mails were sent, want the first and the reminder", n)
	}
}

// TestCommandsOfProducersOnThreeNodes: schedules, unique and debounced jobs by our commands, with the
// leader of LATER killed while a schedule runs.
func TestCommandsOfProducersOnThreeNodes(t *testing.T) {
	t.Parallel()
	cluster, s := onThreeNodes(t, "billing")
	s.Start()
	command := func(args ...string) string {
		t.Helper()
		out, err := s.Command(s.Env, args...)
		if err != nil {
			t.Fatalf("worker %v: %v\n%s", args, err, out)
		}
		return out
	}
	count := func(subject string) (n int) {
		for _, uids := range ended(t, s, subject) {
			n += len(uids)
		}
		return n
	}
	command("schedule", "set", "tick", "jobs.tick", "{}", "--every", "1h")
	command("schedule", "set", "tick", "jobs.tick", "{}", "--every", "1s") // takes its place
	fires := func(when string) {
		t.Helper()
		before := count("jobs.tick")
		faulttest.Until(t, clusterPatience, "the schedule fires twice "+when, func() bool { return count("jobs.tick") >= before+2 })
	}
	fires("at first")
	node := cluster.StreamLeader(s.JS, "LATER")
	node.Kill()
	fires("without its leader")
	node.Restart()
	if out := command("schedule", "ls", "-o", "json"); strings.Count(out, `"name"`) != 1 || !strings.Contains(out, `"last"`) {
		t.Errorf("schedule ls: %s", out)
	}
	command("schedule", "run", "tick")
	command("schedule", "rm", "tick")
	if out := command("schedule", "ls"); !strings.Contains(out, "No schedules.") {
		t.Errorf("schedule ls after rm: %s", out)
	}

	s.Services[0].Hang()
	const rivals = 4
	var racing sync.WaitGroup
	outcomes := make([]error, rivals)
	for i := range rivals {
		racing.Go(func() {
			_, outcomes[i] = s.Command(s.Env, "publish", "jobs.sync", "{}", "--unique", "tenant-4", "--strict")
		})
	}
	racing.Wait()
	won := 0
	for _, err := range outcomes {
		if err == nil {
			won++
		}
	}
	if won != 1 {
		t.Errorf("%d of %d jobs of one key were accepted: %v", won, rivals, outcomes)
	}
	if out := command("publish", "jobs.sync", "{}", "--unique", "tenant-4"); !strings.Contains(out, "is open") {
		t.Errorf("publish --unique while one is open: %s", out)
	}
	s.Services[0].Answer(func(faulttest.Request) faulttest.Answer { return faulttest.Answer{} })
	for _, body := range []string{"1", "2", "3"} {
		command("publish", "jobs.reindex", body, "--debounce", "tenant-4", "--delay", "3s")
	}
	faulttest.Until(t, clusterPatience, "the open job and the burst are done", func() bool {
		return count("jobs.sync.tenant-4") == 1 && count("jobs.reindex") >= 1
	})
	faulttest.Until(t, clusterPatience, "nothing is left to do", func() bool { return state(t, s, "LATER").Msgs == 0 && s.AtRest() })
	if n := count("jobs.reindex"); n != 1 {
		t.Errorf("%d jobs of a burst of three were done", n)
	}
}
