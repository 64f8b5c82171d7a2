package jobs

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// ErrUID is returned for a text that is not a uid.
var ErrUID = errors.New(`not a job uid; want "<stream epoch>.<stream sequence>", for example "dk3x0q1z7f4w.42"`)

// Ref names a job for ever: the epoch of its stream and its sequence there.
type Ref struct {
	Epoch string
	Seq   uint64
}

// Epoch returns the stream epoch of a stream created at t: Unix nanoseconds in base 36.
// A recreated stream numbers its messages from 1 again; the epoch keeps them apart from
// the old ones.
func Epoch(t time.Time) string { return strconv.FormatInt(t.UnixNano(), 36) }

// UID returns "<epoch>.<seq>", which is safe as two tokens of a NATS subject.
func (r Ref) UID() string {
	var room [64]byte // on the stack: an epoch of 12 digits, a dot and at most 20 digits fit
	return string(r.appendUID(room[:0]))
}

func (r Ref) appendUID(b []byte) []byte {
	b = append(append(b, r.Epoch...), '.')
	return strconv.AppendUint(b, r.Seq, 10)
}

// SetUIDs gives those of some jobs that have no UID theirs, all in one piece of memory.
func SetUIDs(members []*Job) {
	const usual = 24 // about the length of most
	var text strings.Builder
	text.Grow(len(members) * usual)
	var room [64]byte // on the stack, see [Ref.UID]
	for _, j := range members {
		if j.UID == "" {
			begin := text.Len()
			text.Write(j.Ref.appendUID(room[:0]))
			j.UID = text.String()[begin:]
		}
	}
}

// ParseUID is the inverse of [Ref.UID]. The error wraps [ErrUID].
func ParseUID(s string) (Ref, error) {
	epoch, seq, ok := strings.Cut(s, ".")
	n, err := strconv.ParseUint(seq, 10, 64)
	if !ok || err != nil || n == 0 || epoch == "" || strings.ContainsFunc(epoch, notBase36) {
		return Ref{}, fmt.Errorf("%q: %w", s, ErrUID)
	}
	return Ref{Epoch: epoch, Seq: n}, nil
}

func notBase36(r rune) bool { return (r < '0' || r > '9') && (r < 'a' || r > 'z') }
