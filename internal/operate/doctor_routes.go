package operate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
)

// maxStray is how many subjects a finding names.
const maxStray = 5

// routes finds subjects of the pool that no service takes: a job there ends as invalid.
func (d *doctor) routes(ctx context.Context, conn *bus.Conn) {
	var taken []string
	for _, service := range d.Dependencies {
		if len(service.Takes) == 0 {
			return // one that takes every job
		}
		taken = append(taken, service.Takes...)
	}
	open := slices.DeleteFunc(slices.Clone(d.Streams.Subjects), func(subject string) bool {
		return slices.ContainsFunc(taken, func(pattern string) bool { return jobs.SubjectCovers(pattern, subject) })
	})
	if len(taken) == 0 || len(open) == 0 {
		return
	}
	stray, err := strays(ctx, conn, d.Streams.Stream, open, taken)
	if err != nil && !errors.Is(err, bus.ErrMissing) {
		d.find("routes", Unsure, lookAgain, "%v", err)
		return
	}
	if len(stray) == 0 {
		d.find("routes", Well, "", "services take %s; a job on another subject of %s ends as invalid", strings.Join(taken, ", "), strings.Join(open, ", "))
		return
	}
	more := ""
	if n := len(stray) - maxStray; n > 0 {
		stray, more = stray[:maxStray], fmt.Sprintf(" and %d more", n)
	}
	d.find("routes", Risky, "Add them to the ROLLCALL_SVC_<NAME>_SUBJECTS of a service, or take them out of ROLLCALL_SUBJECTS.",
		"no service takes %s%s: jobs there end as invalid, with a dead letter", strings.Join(stray, ", "), more)
}

// strays returns the subjects that no pattern of taken matches: those of open that none even meets, and
// those of stored messages.
func strays(ctx context.Context, conn *bus.Conn, name string, open, taken []string) ([]string, error) {
	found := map[string]bool{}
	stream, err := conn.Stream(ctx, name)
	if err != nil {
		return nil, err
	}
	for _, filter := range open {
		if !slices.ContainsFunc(taken, func(pattern string) bool { return jobs.SubjectsMeet(pattern, filter) }) {
			found[filter] = true
			continue
		}
		info, err := stream.Info(ctx, jetstream.WithSubjectFilter(filter))
		if err != nil {
			return nil, conn.Explain("list the subjects of stream "+name, err)
		}
		for subject := range info.State.Subjects {
			if !slices.ContainsFunc(taken, func(pattern string) bool { return jobs.SubjectCovers(pattern, subject) }) {
				found[subject] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found)), nil
}
