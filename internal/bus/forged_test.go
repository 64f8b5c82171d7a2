package bus_test

import (
	"errors"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// TestHeadersOfAProducerAreNotTakenForTheServers: what a read adds to a message, and how it ends, stands in
// headers of names that anybody may write.
func TestHeadersOfAProducerAreNotTakenForTheServers(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	ensure(t, conn, streams())
	names := []nats.Header{
		{"Nats-Sequence": {"7"}, "Nats-Subject": {"jobs.other"}, "Nats-Time-Stamp": {"2001-01-01T00:00:00Z"}},
		{"Status": {"404"}}, {"Status": {"204"}}, {"Status": {"503"}}, {"Status": {"413"}}, {"Status": {"100"}},
	}
	for _, body := range []string{"{}", ""} {
		for _, header := range names {
			if _, err := jetStream(t, conn).PublishMsg(t.Context(), &nats.Msg{Subject: "jobs.a", Header: header, Data: []byte(body)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	stream, err := conn.Stream(t.Context(), "JOBS")
	if err != nil {
		t.Fatal(err)
	}
	total := uint64(2 * len(names))
	isStored := func(read string, want uint64, m *jetstream.RawStreamMsg, err error) {
		t.Helper()
		if err != nil || m.Sequence != want || m.Subject != "jobs.a" || m.Time.Year() == 2001 {
			t.Errorf("%s of message %d: %+v, %v", read, want, m, err)
		}
	}
	all, _, err := conn.ReadFrom(patient(t), "JOBS", "jobs.>", 1)
	if err != nil || len(all) != int(total) {
		t.Fatalf("%d of %d messages are read, %v", len(all), total, err)
	}
	for seq := uint64(1); seq <= total; seq++ {
		isStored("ReadFrom", seq, all[seq-1], nil)
		m, err := conn.Msg(patient(t), stream, seq)
		isStored("Msg", seq, m, err)
		m, err = conn.NextMsg(patient(t), stream, "jobs.>", seq)
		isStored("NextMsg", seq, m, err)
	}
	for last := total; last > 0; last-- {
		m, err := conn.LastMsg(patient(t), stream, "jobs.a")
		isStored("LastMsg", last, m, err)
		if err := stream.DeleteMsg(t.Context(), last); err != nil {
			t.Fatal(err)
		}
	}
	if m, err := conn.LastMsg(patient(t), stream, "jobs.a"); !errors.Is(err, jetstream.ErrMsgNotFound) {
		t.Errorf("LastMsg of an empty stream: %+v, %v", m, err)
	}
}
