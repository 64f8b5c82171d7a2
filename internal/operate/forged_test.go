package operate_test

import (
	"testing"

	"github.com/nats-io/nats.go"

	"rollcall/internal/operate"
)

// TestAProducerCannotPointAtTheJobOfAnother: a job that is said to have the sequence of another, in the
// header that the server adds to what it reads, is cancelled and erased itself.
func TestAProducerCannotPointAtTheJobOfAnother(t *testing.T) {
	t.Parallel()
	for name, act := range map[string]func(a *operate.Admin) error{
		"cancel": func(a *operate.Admin) error { _, err := a.Cancel(patient(t), "me", "evil"); return err },
		"erase":  func(a *operate.Admin) error { _, err := a.Erase(patient(t), "me", "evil"); return err },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := connect(t, startServer(t))
			ensure(t, conn, streams())
			js := jetStream(t, conn)
			for _, header := range []nats.Header{{"ce-id": {"victim"}}, {"ce-id": {"evil"}, "Nats-Sequence": {"1"}, "Status": {"404"}}} {
				if _, err := js.PublishMsg(t.Context(), &nats.Msg{Subject: "jobs.a", Header: header, Data: []byte("{}")}); err != nil {
					t.Fatal(err)
				}
			}
			if err := act(adminOf(conn)); err != nil {
				t.Fatal(err)
			}
			stream, err := js.Stream(t.Context(), "JOBS")
			if err != nil {
				t.Fatal(err)
			}
			if state := stream.CachedInfo().State; state.Msgs != 1 || state.FirstSeq != 1 {
				t.Errorf("%d jobs are left, from %d on; want the victim alone, with sequence 1", state.Msgs, state.FirstSeq)
			}
		})
	}
}
