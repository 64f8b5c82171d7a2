package bus

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/jobs"
)

// StreamJobs is the name of the job stream unless ROLLCALL_STREAM says otherwise.
const StreamJobs = "JOBS"

// describedAs is what the descriptions of our own streams begin with.
const describedAs = "Rollcall: "

// owns reports whether a job stream is one of ours, that a setup made or could have made: a
// work queue that takes from nobody but LATER. Any other serves somebody else too, and how it
// is set is up to them.
func (s *Setup) owns(cfg *jetstream.StreamConfig) bool {
	strangers := slices.ContainsFunc(cfg.Sources, func(source *jetstream.StreamSource) bool { return source.Name != StreamLater })
	named := cfg.Name == StreamJobs || strings.HasPrefix(cfg.Description, describedAs)
	return cfg.Retention == jetstream.WorkQueuePolicy && cfg.Mirror == nil && !strangers && named
}

// foreignStream is a job stream that is not ours: nothing of it is wanted but its messages.
type foreignStream struct{ setup *Setup }

func (o foreignStream) name() string { return "stream " + o.setup.streams.Stream }

func (o foreignStream) essential() bool { return true }

// check reports what loses jobs of this pool.
func (o foreignStream) check(ctx context.Context) ([]Difference, error) {
	stream, err := o.setup.conn.js.Stream(ctx, o.setup.streams.Stream)
	if err != nil {
		return nil, err
	}
	cfg := &stream.CachedInfo().Config
	var found []Difference
	report := func(field, have, want, fix string, e effect) {
		found = append(found, Difference{
			Object: o.name(), Field: field, Have: have, Want: want, Harm: e.text,
			Harmless: e.level == benign, Fatal: e.level == fatal, Fix: fix,
		})
	}
	none := func(field string) string { return fix(o.name(), field, nil, nil) }
	for _, filter := range o.setup.streams.Subjects {
		meets := func(pattern string) bool { return jobs.SubjectsMeet(pattern, filter) }
		if cfg.Mirror == nil && len(cfg.Sources) == 0 && !slices.ContainsFunc(cfg.Subjects, meets) {
			report("subjects", strings.Join(cfg.Subjects, ","), filter, "correct ROLLCALL_SUBJECTS or ROLLCALL_STREAM", ruin("no message on "+filter+" is ever stored"))
		}
	}
	if own := o.setup.ownEvents(cfg); own != "" {
		report("subjects", own, "subjects of others", "narrow ROLLCALL_SUBJECTS", ruin("the pool would take what it writes itself"))
	}
	if cfg.Discard == jetstream.DiscardOld && (cfg.MaxMsgs > 0 || cfg.MaxBytes > 0) {
		report("discard", "old, with a limit", "new", fix(o.name(), "discard", "old", "new"), harm("the oldest messages are deleted when the stream is full, done or not"))
	}
	if cfg.MaxMsgsPerSubject > 0 && !strings.HasPrefix(cfg.Name, StreamDone) {
		report("max_msgs_per_subject", fmt.Sprint(cfg.MaxMsgsPerSubject), "none", none("max_msgs_per_subject"), harm("a newer message of a subject deletes an older one, done or not"))
	}
	if cfg.MaxAge > 0 {
		report("max_age", cfg.MaxAge.String(), "none", none("max_age"), harmless("jobs that wait for so long are deleted"))
	}
	if cfg.NoAck {
		report("no_ack", "true", "false", none("no_ack"), harm("producers get no confirmation that a job is stored"))
	}
	return found, nil
}

// create is never called: a stream that is missing would be made as one of our own.
func (o foreignStream) create(context.Context) error {
	return fmt.Errorf("%s: %w", o.name(), ErrMissing)
}
