package bus

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/jobs"
)

// writtenBy are the subjects that a pool itself writes to, in the streams and to listeners. A
// pool that took them as jobs would feed itself for ever.
func writtenBy(pool string) []string {
	return []string{
		"done.batches." + pool + ".>", "done.sets." + pool + ".>", "done.ledger.>",
		"batches." + pool + ".>", "sets." + pool + ".>", "history." + pool + ".>", DeadSubject(pool, ">"),
	}
}

// CheckEvents returns an error if a pool with these settings would take what it writes itself,
// whatever the job stream holds. A filter that begins with a wildcard is judged when the stream
// is known, see [Setup.ownEvents].
func (s *Streams) CheckEvents(pool string) error {
	var faults []error
	for _, filter := range s.Subjects {
		open := strings.HasPrefix(filter, "*") || strings.HasPrefix(filter, ">")
		if open && s.Source == SourceJetStream && s.Stream != StreamDone {
			continue
		}
		if own := meets(writtenBy(pool), filter); own != "" {
			faults = append(faults, fmt.Errorf("ROLLCALL_SUBJECTS holds %q, and so %s: the pool %s would take what it writes itself; name the pool whose events it should take, such as done.batches.<pool>.>",
				filter, own, pool))
		} else if s.Stream == StreamDone && !strings.HasPrefix(filter, EventPrefix) && !strings.HasPrefix(filter, "done.sets.") {
			faults = append(faults, fmt.Errorf("ROLLCALL_SUBJECTS holds %q: in stream %s a pool takes events, such as done.batches.<pool>.>", filter, StreamDone))
		}
	}
	return errors.Join(faults...)
}

// meets returns the first of the patterns that some subject of filter matches, else "".
func meets(patterns []string, filter string) string {
	i := slices.IndexFunc(patterns, func(pattern string) bool { return jobs.SubjectsMeet(pattern, filter) })
	if i < 0 {
		return ""
	}
	return patterns[i]
}

// ownEvents returns what of its own writing a pool would find in a stream that is not ours.
func (s *Setup) ownEvents(cfg *jetstream.StreamConfig) string {
	holds := slices.Clone(cfg.Subjects)
	for _, source := range append(slices.Clone(cfg.Sources), cfg.Mirror) {
		if source != nil && source.Name == StreamDone && len(source.SubjectTransforms) == 0 {
			holds = append(holds, subjectsDone)
		}
	}
	for _, own := range writtenBy(s.pool) {
		if meets(holds, own) != "" && meets(s.streams.Subjects, own) != "" {
			return own
		}
	}
	return ""
}
