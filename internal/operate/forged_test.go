package operate_test

import (
	"bufio"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
	"rollcall/internal/operate"
)

// publishRaw publishes a message with headers that no client library writes, and waits until it is stored.
func publishRaw(t *testing.T, s *server.Server, subject, header, body string) {
	t.Helper()
	c, err := s.InProcessConn()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	lines := bufio.NewScanner(c)
	lines.Scan() // the server speaks first
	_, err = fmt.Fprintf(c, "CONNECT {\"headers\":true,\"verbose\":false}\r\nSUB raw 1\r\nHPUB %s raw %d %d\r\n%s%s\r\n",
		subject, len(header), len(header)+len(body), header, body)
	if err == nil {
		err = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	}
	for err == nil && lines.Scan() {
		if strings.Contains(lines.Text(), `"seq":`) {
			return
		}
	}
	t.Fatalf("a raw message was not stored: %v, %v", err, lines.Err())
}

// publishJob publishes a job with an id, and other headers.
func publishJob(t *testing.T, conn *bus.Conn, id string, more nats.Header) {
	t.Helper()
	header := nats.Header{"ce-id": {id}}
	for name, values := range more {
		header[name] = values
	}
	if _, err := jetStream(t, conn).PublishMsg(t.Context(), &nats.Msg{Subject: "jobs.a", Header: header, Data: []byte("{}")}); err != nil {
		t.Fatal(err)
	}
}

// TestAProducerCannotPointAtTheJobOfAnother: a job that is said to have the sequence of another, in the
// header that the server adds to what it reads, is cancelled and erased itself, or not at all.
func TestAProducerCannotPointAtTheJobOfAnother(t *testing.T) {
	t.Parallel()
	const emptyLine = "NATS/1.0\r\nce-id: evil\r\nRollcall-Set: mine\r\nNats-Sequence: %d\r\nNats-Subject: jobs.a\r\nNats-Time-Stamp: 2026-01-01T00:00:00Z\r\n\r\n\r\n"
	forge := map[string]struct {
		victim uint64 // its sequence
		evil   func(t *testing.T, s *server.Server, conn *bus.Conn)
	}{
		"header": {1, func(t *testing.T, _ *server.Server, conn *bus.Conn) {
			publishJob(t, conn, "evil", nats.Header{"Nats-Sequence": {"1"}, "Status": {"404"}, "Rollcall-Set": {"mine"}})
		}},
		"back, before an empty line": {1, func(t *testing.T, s *server.Server, _ *bus.Conn) {
			publishRaw(t, s, "jobs.a", fmt.Sprintf(emptyLine, 1), "{}")
		}},
		"ahead, before an empty line": {2, func(t *testing.T, s *server.Server, _ *bus.Conn) {
			publishRaw(t, s, "jobs.a", fmt.Sprintf(emptyLine, 2), "{}")
		}},
	}
	for name, act := range map[string]func(a *operate.Admin) error{
		"cancel":     func(a *operate.Admin) error { _, err := a.Cancel(patient(t), "me", "evil"); return err },
		"erase":      func(a *operate.Admin) error { _, err := a.Erase(patient(t), "me", "evil"); return err },
		"cancel set": func(a *operate.Admin) error { _, err := a.CancelSet(patient(t), "me", "mine"); return err },
	} {
		for how, forged := range forge {
			t.Run(name+", "+how, func(t *testing.T) {
				t.Parallel()
				s := startServer(t)
				conn := connect(t, s)
				ensure(t, conn, streams())
				if forged.victim == 2 {
					forged.evil(t, s, conn)
				}
				publishJob(t, conn, "victim", nil)
				if forged.victim == 1 {
					forged.evil(t, s, conn)
				}
				if err := act(adminOf(conn)); err != nil && how == "header" {
					t.Errorf("the job with the forged header: %v", err)
				}
				stream, err := jetStream(t, conn).Stream(t.Context(), "JOBS")
				if err != nil {
					t.Fatal(err)
				}
				if m, err := stream.GetMsg(t.Context(), forged.victim); err != nil || m.Header.Get("ce-id") != "victim" {
					t.Errorf("the victim is gone: %v", err)
				}
				if n := stream.CachedInfo().State.Msgs; how == "header" && n != 1 {
					t.Errorf("%d jobs are left, want the victim alone", n)
				}
			})
		}
	}
}

// TestAProducerCannotHideTheJobsOfOthers behind one whose headers look like the end of a read, or that
// cannot be read.
func TestAProducerCannotHideTheJobsOfOthers(t *testing.T) {
	t.Parallel()
	for name, header := range map[string]string{
		"404": "NATS/1.0\r\nStatus: 404\r\n\r\n", "204": "NATS/1.0 204\r\n\r\n", "503": "NATS/1.0 503\r\n\r\n",
		"204 before an empty line": "NATS/1.0\r\nStatus: 204\r\n\r\n\r\n", "404 before an empty line": "NATS/1.0\r\nStatus: 404\r\n\r\n\r\n", "503 before an empty line": "NATS/1.0 503\r\n\r\n\r\n",
		"no colon": "NATS/1.0\r\nbroken\r\n\r\n", "no version": "HELLO\r\n\r\n", "half a status": "NATS/1.0 4\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t)
			conn := connect(t, s)
			ensure(t, conn, streams())
			publishJob(t, conn, "first", nil)
			publishRaw(t, s, "jobs.a", header, "{}")
			publishJob(t, conn, "victim", nil)
			if report, err := adminOf(conn).Job(patient(t), "victim"); err != nil || report.ID != "victim" {
				t.Errorf("Job() = %+v, %v", report, err)
			}
		})
	}
}

// TestALetterWithAStatusHidesNoOthers: clients take a message with a status and no body for the server's
// word, and letters are read without their bodies.
func TestALetterWithAStatusHidesNoOthers(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	ensure(t, conn, streams())
	letters := bus.NewDeadLetters(conn, pool, nopLog())
	for i, status := range []string{"409", "503", "404", "100", "408", ""} {
		j := jobs.Decode(jobs.Delivery{
			Subject: "jobs.a", Header: map[string][]string{"Status": {status}, "Not A Name": {"x"}}, Data: []byte("{}"),
			Ref: jobs.Ref{Epoch: "e", Seq: uint64(i + 1)},
		}, 0)
		if err := letters.Publish(patient(t), []jobs.DeadLetter{{Job: &j, BatchID: "b", Ruling: &jobs.Ruling{Outcome: jobs.Invalid, Reason: "x", Attempt: 1}}}); err != nil {
			t.Fatal(err)
		}
	}
	found := 0
	err := adminOf(conn).Letters(patient(t), operate.LetterFilter{}, func(bus.Letter) error { found++; return nil })
	if found != 6 || err != nil {
		t.Errorf("%d of 6 letters, %v", found, err)
	}
}

// TestAUIDIsOfNoOtherJob that has it for a name.
func TestAUIDIsOfNoOtherJob(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	ensure(t, conn, streams())
	publishJob(t, conn, "victim", nil)
	stream, err := jetStream(t, conn).Stream(t.Context(), "JOBS")
	if err != nil {
		t.Fatal(err)
	}
	uid := jobs.Ref{Epoch: jobs.Epoch(stream.CachedInfo().Created), Seq: 1}.UID()
	delayed := nats.Header{"ce-id": {uid}, "Nats-Schedule": {"@at 2099-01-01T00:00:00Z"}, "Nats-Schedule-Target": {"due.a"}}
	if _, err := jetStream(t, conn).PublishMsg(t.Context(), &nats.Msg{Subject: "later.other", Header: delayed, Data: []byte("{}")}); err != nil {
		t.Fatal(err)
	}
	if report, err := adminOf(conn).Job(patient(t), uid); err != nil || report.ID != "victim" {
		t.Errorf("Job(%s) = %+v, %v; want the job of that uid", uid, report, err)
	}
}
