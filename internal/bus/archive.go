package bus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// StreamHistory keeps completion events for longer than DONE does, if somebody asked for it.
const StreamHistory = "HISTORY"

const (
	// historyFrom and historyTo drop the batch id: the server keeps every subject in memory, and
	// an archive would have millions.
	historyFrom = "done.batches.*.*.*"
	historyTo   = "history.{{wildcard(1)}}.{{wildcard(2)}}"
)

// HistoryFilter matches the archived events of a pool, of every pool for "*".
func HistoryFilter(pool string) string { return "history." + pool + ".*" }

func (s *Setup) historyConfig(age time.Duration) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        StreamHistory,
		Description: describedAs + "completion events for longer than " + s.conn.Done() + " keeps them",
		Retention:   jetstream.LimitsPolicy,
		Storage:     jetstream.FileStorage,
		Discard:     jetstream.DiscardOld,
		MaxAge:      age,
		Replicas:    s.streams.Replicas,
		AllowDirect: true,
		Sources: []*jetstream.StreamSource{{
			Name:              s.conn.Done(),
			SubjectTransforms: []jetstream.SubjectTransformConfig{{Source: historyFrom, Destination: historyTo}},
		}},
	}
}

// Archive makes the stream HISTORY, which keeps events for age, and reports whether it did. One
// that stands is left as it is.
func (s *Setup) Archive(ctx context.Context, age time.Duration) (created bool, err error) {
	if age < s.streams.DoneAge {
		return false, fmt.Errorf("an archive of %v is of no use: events live for %v anyway (ROLLCALL_DONE_AGE)", age, s.streams.DoneAge)
	}
	if _, err := s.conn.Stream(ctx, StreamHistory); !errors.Is(err, ErrMissing) {
		return false, err
	}
	if _, err := s.conn.js.CreateStream(ctx, s.historyConfig(age)); err != nil {
		return false, Explain("create stream "+StreamHistory, err)
	}
	return true, nil
}

// ArchivedEvent reads from the header of an archived message where it came from: the subject in
// DONE and the sequence there. The server writes "<stream> <seq> <filter> <transform> <subject> …"
// (stream.go, genSourceHeader).
func ArchivedEvent(source string) (subject string, seq uint64, ok bool) {
	fields := strings.Fields(source)
	if len(fields) < 5 {
		return "", 0, false
	}
	seq, ok = parseUint(fields[1])
	return fields[4], seq, ok
}
