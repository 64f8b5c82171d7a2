package bus_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"rollcall/internal/bus"
	"rollcall/internal/ledger"
)

func FuzzReadStored(f *testing.F) {
	f.Add("7", "2026-01-31T12:00:00.123456789Z")
	f.Add("-1", "now")
	f.Add("18446744073709551616", "")
	f.Fuzz(func(t *testing.T, seq, at string) {
		got, stored, err := bus.ReadStored(&nats.Msg{Header: nats.Header{"Nats-Sequence": {seq}, "Nats-Time-Stamp": {at}}})
		if err == nil && (seq == "" || stored.IsZero() && got == 0) {
			t.Errorf("sequence %q and time %q were read as %d and %v", seq, at, got, stored)
		}
	})
}

func FuzzReadPubAck(f *testing.F) {
	f.Add([]byte(`{"stream":"DONE","seq":12,"batch":"b","count":3}`), 3)
	f.Add([]byte(`{"error":{"code":400,"err_code":10071,"description":"wrong last sequence"}}`), 1)
	f.Add([]byte(`{"seq":1,"count":3}`), 3)
	f.Fuzz(func(t *testing.T, data []byte, n int) {
		if n < 1 || n > ledger.MaxGroup {
			t.Skip("no commit has so many messages")
		}
		if first, err := bus.ReadPubAck(data, n); (err == nil) != (first > 0) {
			t.Errorf("%q for %d messages: first is %d, %v", data, n, first, err)
		}
	})
}

// FuzzReadLetter reads headers that anybody with the right to publish dead letters wrote.
func FuzzReadLetter(f *testing.F) {
	f.Add("dead.default.jobs.x", "Rollcall-Attempts", "3")
	f.Add("dead.default.", "Nats-Msg-Size", "-9223372036854775809")
	f.Add("", "Rollcall-Failed-At", "0000-01-01T00:00:00Z")
	f.Fuzz(func(t *testing.T, subject, name, value string) {
		l := bus.ReadLetter("default", subject, 1, time.Unix(1, 0), nats.Header{name: {value}})
		if l.Seq != 1 || name != "Rollcall-Failed-At" && !l.FailedAt.Equal(time.Unix(1, 0)) {
			t.Errorf("header %s %q gives %+v", name, value, l)
		}
	})
}
