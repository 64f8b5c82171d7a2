package bus_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"rollcall/internal/bus"
	"rollcall/internal/faulttest"
	"rollcall/internal/jobs"
	"rollcall/internal/ledger/ledgertest"
)

// letterOf is a dead letter for a job with the given subject, body and headers.
func letterOf(seq uint64, subject string, body []byte, header map[string][]string) jobs.DeadLetter {
	ref := jobs.Ref{Epoch: ledgertest.Epoch, Seq: seq}
	return jobs.DeadLetter{
		BatchID: "b1",
		Job:     &jobs.Job{Delivery: jobs.Delivery{Ref: ref, UID: ref.UID(), Subject: subject, Data: body, Header: header}},
		Ruling:  &jobs.Ruling{Outcome: jobs.Failed, Attempt: 3, Reason: "no such customer", Service: "billing"},
	}
}

// deadLetters returns what the DEAD stream holds.
func deadLetters(t *testing.T, conn *bus.Conn) []*jetstream.RawStreamMsg {
	t.Helper()
	stream, err := jetStream(t, conn).Stream(t.Context(), bus.StreamDead)
	if err != nil {
		t.Fatal(err)
	}
	var all []*jetstream.RawStreamMsg
	for seq := uint64(1); seq <= stream.CachedInfo().State.LastSeq; seq++ {
		m, err := stream.GetMsg(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	return all
}

func TestADeadLetterCarriesTheJobAndTheReason(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	ensure(t, conn, streams())
	letter := letterOf(7, "jobs.mail.send", []byte("body\x00"), map[string][]string{
		"Nats-Msg-Id": {"order-1"}, "nats-expected-stream": {"JOBS"}, "X-Own": {"kept", "twice"},
		"rollcall-reason": {"forged"}, "Rollcall-Deadline": {"2026-01-01T00:00:00Z"},
	})
	dead := bus.NewDeadLetters(conn, pool, nopLog())
	for range 2 {
		// A second time, as after a lost PubAck.
		if err := dead.Publish(patient(t), []jobs.DeadLetter{letter}); err != nil {
			t.Fatal(err)
		}
	}
	all := deadLetters(t, conn)
	if len(all) != 1 {
		t.Fatalf("%d dead letters, want one: the message id keeps the second out", len(all))
	}
	m := all[0]
	if m.Subject != "dead.test.jobs.mail.send" || string(m.Data) != "body\x00" {
		t.Errorf("letter %s with %q", m.Subject, m.Data)
	}
	for name, want := range map[string]string{
		"Nats-Msg-Id": "e1.7.b1", "Rollcall-Reason": "no such customer", "Rollcall-Outcome": "failed", "Rollcall-Attempts": "3",
		"Rollcall-Service": "billing", "Rollcall-Batch": "b1", "Rollcall-Uid": "e1.7", "Rollcall-Subject": "jobs.mail.send",
		"Rollcall-Deadline": "2026-01-01T00:00:00Z", "Rollcall-Truncated": "",
	} {
		if got := m.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if got := m.Header["X-Own"]; !slices.Equal(got, []string{"kept", "twice"}) {
		t.Errorf("X-Own: %q, want both values", got)
	}
	for name := range m.Header {
		if strings.EqualFold(name, "nats-expected-stream") || name == "rollcall-reason" {
			t.Errorf("header %s came through", name)
		}
	}
	if at, err := time.Parse(time.RFC3339Nano, m.Header.Get("Rollcall-Failed-At")); err != nil || time.Since(at).Abs() > time.Minute {
		t.Errorf("Rollcall-Failed-At %v, %v; want now", at, err)
	}
}

// Neither a producer nor a service speaks in the headers that are Rollcall's: a forged id would have the
// letter erased with the job of somebody else, and a reason is read in terminals.
func TestALetterSaysNothingInOthersNames(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	ensure(t, conn, streams())
	letter := letterOf(7, "jobs.a", nil, map[string][]string{"Rollcall-Id": {"forged"}, "rollcall-id": {"forged"}, "rollcall-truncated": {"true"}, "Rollcall-Uid": {"e1.8"}})
	letter.Job.ID = letter.Job.UID
	letter.Ruling.Reason = "no\x1b[2J such\r\nX-Evil: 1\x00 customer" + strings.Repeat("!", 2000)
	if err := bus.NewDeadLetters(conn, pool, nopLog()).Publish(patient(t), []jobs.DeadLetter{letter}); err != nil {
		t.Fatal(err)
	}
	header := deadLetters(t, conn)[0].Header
	for name, values := range header {
		if strings.EqualFold(name, "Rollcall-Id") || strings.EqualFold(name, "Rollcall-Truncated") || name == "X-Evil" {
			t.Errorf("%s: %q", name, values)
		}
	}
	if got := header.Get("Rollcall-Reason"); !strings.HasPrefix(got, "no [2J such X-Evil: 1 customer!") || len(got) > 1024 {
		t.Errorf("the reason is %q", got)
	}
	if got := header["Rollcall-Uid"]; !slices.Equal(got, []string{"e1.7"}) {
		t.Errorf("the uid is %q", got)
	}
}

func TestWhatDoesNotFitIsCutAndMarked(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	ensure(t, conn, streams())
	const maxPayload = 1 << 20
	full := letterOf(1, "jobs.a", make([]byte, maxPayload), nil)
	wide := letterOf(2, "jobs.a", []byte("small"), map[string][]string{"X-Wide": {strings.Repeat("h", 65_400)}})
	long := letterOf(3, "jobs."+strings.Repeat("x", 4000), []byte("small"), nil)
	if err := bus.NewDeadLetters(conn, pool, nopLog()).Publish(patient(t), []jobs.DeadLetter{full, wide, long}); err != nil {
		t.Fatal(err)
	}
	all := deadLetters(t, conn)
	if len(all) != 3 {
		t.Fatalf("%d dead letters, want 3", len(all))
	}
	if n := len(all[0].Data); n < maxPayload-1000 || n >= maxPayload || all[0].Header.Get("Rollcall-Truncated") != "true" {
		t.Errorf("a full body became %d bytes, Rollcall-Truncated %q", n, all[0].Header.Get("Rollcall-Truncated"))
	}
	if h := all[1].Header; h.Get("X-Wide") != "" || h.Get("Rollcall-Truncated") != "true" || h.Get("Rollcall-Uid") != "e1.2" || string(all[1].Data) != "small" {
		t.Errorf("headers too wide for a stream: %d left, body %q; want ours alone, and the body", len(h), all[1].Data)
	}
	if m := all[2]; len(m.Subject) > 3200 || m.Header.Get("Rollcall-Subject") != long.Job.Subject {
		t.Errorf("a subject too long for a protocol line became %d bytes", len(m.Subject))
	}
	if err := conn.Healthy(); err != nil {
		t.Errorf("the connection did not survive: %v", err)
	}
}

func TestDeadLettersAreRepeatedUntilConfirmed(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	dead := bus.NewDeadLetters(conn, pool, nopLog())
	var letters []jobs.DeadLetter
	for seq := range uint64(300) {
		letters = append(letters, letterOf(seq, "jobs.a", fmt.Append(nil, seq), nil))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := dead.Publish(ctx, letters); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Publish() = %v without a stream, want the end of its context", err)
	}
	published := make(chan error, 1)
	go func() { published <- dead.Publish(patient(t), letters) }()
	ensure(t, conn, streams())
	if err := <-published; err != nil {
		t.Fatal(err)
	}
	stored := deadLetters(t, conn)
	if len(stored) != 300 {
		t.Errorf("%d dead letters, want 300", len(stored))
	}
}

// TestLettersOfABatchStandInTheOrderOfItsJobs: whoever lists dead letters reads them as they failed.
func TestLettersOfABatchStandInTheOrderOfItsJobs(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	ensure(t, conn, streams())
	var letters []jobs.DeadLetter
	for seq := range uint64(100) {
		letters = append(letters, letterOf(seq, "jobs.a", nil, nil))
	}
	if err := bus.NewDeadLetters(conn, pool, nopLog()).Publish(patient(t), letters); err != nil {
		t.Fatal(err)
	}
	for i, m := range deadLetters(t, conn) {
		if got := m.Header.Get("Rollcall-Uid"); got != letters[i].Job.UID {
			t.Fatalf("letter %d is of job %s, want %s", i, got, letters[i].Job.UID)
		}
	}
}

// TestLettersThatTheirStreamDoesNotTakeAreNamed: a full stream must not hold up the mates of the jobs
// that failed, so the caller has to know whose letters are not stored.
func TestLettersThatTheirStreamDoesNotTakeAreNamed(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	_, err := jetStream(t, conn).CreateStream(t.Context(), jetstream.StreamConfig{
		Name: bus.StreamDead, Subjects: []string{"dead.>"}, Discard: jetstream.DiscardNew, MaxMsgs: 2,
	})
	if err != nil {
		t.Fatal(err)
	}
	dead := bus.NewDeadLetters(conn, pool, nopLog())
	var letters []jobs.DeadLetter
	for seq := range uint64(5) {
		letters = append(letters, letterOf(seq, "jobs.a", []byte("x"), nil))
	}
	refused, ok := errors.AsType[*jobs.LettersError](dead.Publish(patient(t), letters))
	if !ok {
		t.Fatal("a full stream is no LettersError")
	}
	n := 0
	for _, r := range refused.Refused {
		if r {
			n++
		}
	}
	if n != 3 || !strings.Contains(refused.Error(), "maximum messages exceeded") {
		t.Errorf("%d of 5 letters are refused by a stream with room for 2: %v", n, refused)
	}
}

// TestLettersWithoutAStreamAreNamed: so must a stream that was deleted.
func TestLettersWithoutAStreamAreNamed(t *testing.T) {
	t.Parallel()
	dead := bus.NewDeadLetters(connect(t, startServer(t)), pool, nopLog())
	letters := []jobs.DeadLetter{letterOf(1, "jobs.a", []byte("x"), nil), letterOf(2, "jobs.a", []byte("x"), nil)}
	refused, ok := errors.AsType[*jobs.LettersError](dead.Publish(patient(t), letters))
	if !ok || !errors.Is(refused, nats.ErrNoResponders) {
		t.Fatalf("got %v, want a LettersError that says that nobody takes them", refused)
	}
	if !refused.Refused[0] || !refused.Refused[1] {
		t.Errorf("refused %v, want both", refused.Refused)
	}
}

// TestTheStreamOfDeadLettersIsMadeAgain: with ROLLCALL_ENSURE somebody who deletes it loses the
// letters in it, and no more. Without, the error says what makes it.
func TestTheStreamOfDeadLettersIsMadeAgain(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	wanted := streams()
	ensure(t, conn, wanted)
	if err := jetStream(t, conn).DeleteStream(t.Context(), bus.StreamDead); err != nil {
		t.Fatal(err)
	}
	letters := []jobs.DeadLetter{letterOf(1, "jobs.a", []byte("x"), nil)}
	wanted.Ensure = false
	err := bus.NewDeadLetters(conn, pool, nopLog()).MadeBy(bus.NewSetup(conn, wanted, pool)).Publish(patient(t), letters)
	if !errors.Is(err, bus.ErrMissing) || !strings.Contains(err.Error(), "worker setup") {
		t.Errorf("got %v without ROLLCALL_ENSURE, want what is missing and the command that makes it", err)
	}
	wanted.Ensure = true
	if err := bus.NewDeadLetters(conn, pool, nopLog()).MadeBy(bus.NewSetup(conn, wanted, pool)).Publish(patient(t), letters); err != nil {
		t.Fatal(err)
	}
	if n := len(deadLetters(t, conn)); n != 1 {
		t.Errorf("%d dead letters, want 1", n)
	}
}

// lines takes what is logged, a line each.
type lines chan string

func (l lines) Write(line []byte) (int, error) {
	l <- string(line)
	return len(line), nil
}

func (l lines) next(t testing.TB) string {
	t.Helper()
	select {
	case line := <-l:
		return line
	case <-time.After(patience):
		t.Fatal("nothing was logged")
		panic("unreachable")
	}
}

// TestDeadLettersThatCannotBeStoredAreTold: without its stream a batch with a dead letter waits
// for ever, and in time all batches do; that must not look like idleness.
func TestDeadLettersThatCannotBeStoredAreTold(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	log := make(lines, 16) // more than what is told
	dead := bus.NewDeadLetters(conn, pool, zerolog.New(log))
	dead.FailedSince(time.Now().Add(-time.Minute))
	var publishing sync.WaitGroup
	for n := range uint64(2) {
		publishing.Go(func() {
			if err := dead.Publish(patient(t), []jobs.DeadLetter{letterOf(n, "jobs.a", []byte("x"), nil)}); err != nil {
				t.Error(err)
			}
		})
	}
	if line := log.next(t); !strings.Contains(line, "publishing dead letters fails, retrying") {
		t.Errorf("the log says %s", line)
	}
	ensure(t, conn, streams())
	publishing.Wait()
	if line := log.next(t); !strings.Contains(line, "publishing dead letters works again") {
		t.Errorf("the log says %s", line)
	}
	if len(log) != 0 {
		t.Errorf("and then %s", <-log)
	}
}

func TestCoreDeadLettersWaitForNobody(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	heard, err := conn.NATS().SubscribeSync("dead.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := bus.NewCoreDeadLetters(conn, pool).Publish(t.Context(), []jobs.DeadLetter{letterOf(1, "jobs.a", []byte("x"), nil)}); err != nil {
		t.Fatal(err)
	}
	if m, err := heard.NextMsg(patience); err != nil || m.Subject != "dead.test.jobs.a" || m.Header.Get("Rollcall-Reason") == "" {
		t.Errorf("heard %v, %v; want the letter", m, err)
	}
}

// TestLettersFitAServerThatTakesLessMeanwhile: a letter waits for its stream while max_payload is
// lowered, and the connection is made anew.
func TestLettersFitAServerThatTakesLessMeanwhile(t *testing.T) {
	t.Parallel()
	const less = 4 << 10
	broker := faulttest.StartBroker(t, faulttest.BrokerOptions{})
	conn, other := login(t, broker.URL, "", ""), login(t, broker.URL, "", "")
	dead := bus.NewDeadLetters(conn, pool, nopLog())
	letter := letterOf(1, "jobs.a", bytes.Repeat([]byte("x"), less), nil)
	published := make(chan error, 1)
	ensure(t, conn, streams())
	full := func(max int64) {
		stream, err := jetStream(t, conn).Stream(t.Context(), bus.StreamDead)
		if err != nil {
			t.Fatal(err)
		}
		cfg := stream.CachedInfo().Config
		cfg.MaxBytes, cfg.Discard = max, jetstream.DiscardNew
		if _, err := jetStream(t, conn).UpdateStream(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
	}
	full(1)
	sent, err := other.NATS().SubscribeSync("dead.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := other.NATS().Flush(); err != nil {
		t.Fatal(err)
	}
	ctx := patient(t)
	go func() { published <- dead.Publish(ctx, []jobs.DeadLetter{letter}) }()
	if _, err := sent.NextMsg(patience); err != nil {
		t.Fatal(err)
	}
	broker.Configure("1GB", fmt.Sprint("max_payload: ", less))
	broker.Reload()
	if err := conn.NATS().ForceReconnect(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the client knows of it", func() bool { return conn.NATS().MaxPayload() == less })
	full(-1)
	if err := <-published; err != nil {
		t.Fatal(err)
	}
	if all := deadLetters(t, conn); len(all) != 1 || all[0].Header.Get("Rollcall-Truncated") != "true" {
		t.Errorf("%d letters are stored, want one that was cut", len(all))
	}
}
