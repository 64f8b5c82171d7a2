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

// CheckService returns an error if requests to a service on NATS, which go to the subjects of filter, would
// end in a stream of ours: its confirmation would pass for a reply, and the pool would take its own requests
// for jobs. What a job filter that begins with a wildcard takes is for the stream to say.
func (s *Streams) CheckService(name, filter string) error {
	ours := []string{SubjectsDue, subjectsLater, subjectsDone, subjectsDead}
	if stored := meets(ours, filter); stored != "" {
		return fmt.Errorf("ROLLCALL_SERVICES: service %s: requests to %s could meet %s, where the streams of pools listen and no service does; name another subject, such as svc.%s", name, filter, stored, name)
	}
	taken := slices.DeleteFunc(slices.Clone(s.Subjects), func(subject string) bool { return s.Source == SourceJetStream && isOpen(subject) })
	if own := meets(taken, filter); own != "" {
		return fmt.Errorf("ROLLCALL_SERVICES: service %s: requests to %s could meet %s of ROLLCALL_SUBJECTS: the pool would take its own requests for jobs; name another subject, such as svc.%s", name, filter, own, name)
	}
	return nil
}

// isOpen reports whether a filter begins with a wildcard.
func isOpen(filter string) bool {
	return strings.HasPrefix(filter, "*") || strings.HasPrefix(filter, ">")
}

// CheckEvents returns an error if a pool with these settings would take what it writes itself,
// whatever the job stream holds. A filter that begins with a wildcard is judged when the stream
// is known, see [Setup.ownEvents].
func (s *Streams) CheckEvents(pool string) error {
	var faults []error
	for _, filter := range s.Subjects {
		if isOpen(filter) && s.Source == SourceJetStream && s.Stream != StreamDone {
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
