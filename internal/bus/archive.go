package bus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/jobs"
)

// StreamHistory keeps completion events for longer than DONE does, if somebody asked for it.
const StreamHistory = "HISTORY"

// History is the stream that keeps the events of [Conn.Done] for longer: HISTORY, or with
// ROLLCALL_DONE=own HISTORY_<pool>.
func (c *Conn) History() string { return StreamHistory + strings.TrimPrefix(c.Done(), StreamDone) }

const (
	// historyFrom and historyTo drop the batch id: the server keeps every subject in memory, and
	// an archive would have millions.
	historyFrom = "done.batches.*.*.*"
	historyTo   = "history.{{wildcard(1)}}.{{wildcard(2)}}"
)

// HistoryFilter matches the archived events of a pool, of every pool for "*".
func HistoryFilter(pool string) string { return "history." + pool + ".*" }

func (s *Setup) historyConfig(age time.Duration, limit jobs.Size) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        s.conn.History(),
		Description: describedAs + "completion events for longer than " + s.conn.Done() + " keeps them",
		Retention:   jetstream.LimitsPolicy,
		Storage:     jetstream.FileStorage,
		Discard:     jetstream.DiscardOld,
		MaxAge:      age,
		MaxBytes:    maxBytes(limit),
		Replicas:    s.streams.Replicas,
		AllowDirect: true,
		Sources: []*jetstream.StreamSource{{
			Name:              s.conn.Done(),
			SubjectTransforms: []jetstream.SubjectTransformConfig{{Source: historyFrom, Destination: historyTo}},
		}},
	}
}

// Archive makes the stream [Conn.History], which keeps events for age and in at most limit bytes,
// 0 for any number, and reports whether it did, with dryRun whether it would. One that stands is
// left as it is.
func (s *Setup) Archive(ctx context.Context, age time.Duration, limit jobs.Size, dryRun bool) (created bool, err error) {
	if age < s.streams.DoneAge {
		return false, fmt.Errorf("an archive of %v is of no use: events live for %v anyway (ROLLCALL_DONE_AGE)", age, s.streams.DoneAge)
	}
	if _, err := s.conn.Stream(ctx, s.conn.History()); !errors.Is(err, ErrMissing) || dryRun {
		return errors.Is(err, ErrMissing), unlessMissing(err)
	}
	_, err = s.conn.js.CreateStream(ctx, s.historyConfig(age, limit))
	switch {
	case err == nil:
		return true, nil
	case beyondRoom(err):
		return false, fmt.Errorf("create stream %s: %w; set --archive-bytes so that it fits what the account may store", s.conn.History(), err)
	default:
		return false, s.conn.Explain("create stream "+s.conn.History(), err)
	}
}

// unlessMissing returns err, or nil if it says that something is missing.
func unlessMissing(err error) error {
	if errors.Is(err, ErrMissing) {
		return nil
	}
	return err
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
