package bus_test

import (
	"strings"
	"testing"
	"time"

	"rollcall/internal/bus"
)

func TestParseAckReply(t *testing.T) {
	t.Parallel()
	want := bus.AckReply{Delivered: 3, StreamSeq: 1000, ConsumerSeq: 1234, Published: time.Unix(0, 1700000000123456789)}
	const numbers = "3.1000.1234.1700000000123456789.42"
	for subject, ok := range map[string]bool{
		"$JS.ACK.JOBS.pool." + numbers:                            true,
		"$JS.ACK._.hash.JOBS.pool." + numbers:                     true,
		"$JS.ACK.hub.hash.JOBS.pool." + numbers + ".r":            true,
		"$JS.ACK.hub.hash.JOBS.pool." + numbers + ".r.more.of.it": true,
		"":         false,
		"$JS.ACK.": false,
		"_INBOX.a.b.3.1000.1234.1700000000123456789.42":         false,
		"$JS.ACK.JOBS.pool.3.1000.1234.1700000000123456789":     false,
		"$JS.ACK.x.JOBS.pool." + numbers:                        false, // ten tokens are neither form
		"$JS.ACK..pool." + numbers:                              false,
		"$JS.ACK.JOBS.pool.-3.1000.1234.1700000000123456789.42": false,
		"$JS.ACK.JOBS.pool.0.1000.1234.1700000000123456789.42":  false,
		"$JS.ACK.JOBS.pool.3.0.1234.1700000000123456789.42":     false,
		"$JS.ACK.JOBS.pool.3..1234.1700000000123456789.42":      false,
		"$JS.ACK.JOBS.pool.3.1000.1234.9999999999999999999.42":  false,
		"$JS.ACK.JOBS.pool.3.18446744073709551616.1234.17.42":   false,
	} {
		got, parsed := bus.ParseAckReply(subject)
		if parsed != ok {
			t.Errorf("ParseAckReply(%q) ok = %v, want %v", subject, parsed, ok)
		}
		if ok && got != want {
			t.Errorf("ParseAckReply(%q) = %+v, want %+v", subject, got, want)
		}
	}
}

func TestParseAckReplyAllocatesNothing(t *testing.T) {
	const subject = "$JS.ACK.hub.hash.JOBS.pool.3.1000.1234.1700000000123456789.42.r"
	if n := testing.AllocsPerRun(100, func() { bus.ParseAckReply(subject) }); n != 0 {
		t.Errorf("%v allocations for each subject, want none", n)
	}
}

func FuzzParseAckReply(f *testing.F) {
	f.Add("$JS.ACK.JOBS.pool.1.2.3.4.5")
	f.Add("$JS.ACK._.hash.JOBS.pool.1.2.3.4.5")
	f.Add("$JS.ACK.hub.hash.JOBS.pool.1.2.3.4.5.x")
	f.Add("$JS.ACK........")
	f.Fuzz(func(t *testing.T, subject string) {
		got, ok := bus.ParseAckReply(subject)
		if !ok {
			return
		}
		if !strings.HasPrefix(subject, "$JS.ACK.") {
			t.Errorf("%q was taken for an ack subject", subject)
		}
		if got.Delivered == 0 || got.StreamSeq == 0 || got.Published.UnixNano() < 0 {
			t.Errorf("%q gives %+v: no delivery has such numbers", subject, got)
		}
	})
}
