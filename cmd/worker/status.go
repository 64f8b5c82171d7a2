package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
	"rollcall/internal/operate"
	"rollcall/internal/table"
)

// poolStatus is what status prints.
type poolStatus struct {
	// State is nil in core mode.
	State    *jobs.PoolState     `json:"state"`
	Replicas []jobs.ReplicaState `json:"replicas"`
	// Held jobs of those in flight are with the replicas that answered; the others wait for their
	// next attempt.
	Held            int `json:"held"`
	WaitingForRetry int `json:"waiting_for_retry"`
	// Mixed are the settings in which the replicas differ.
	Mixed []jobs.Difference `json:"mixed,omitempty"`
}

func (c *cli) statusCommand() *cobra.Command {
	var watch bool
	var every time.Duration
	command := &cobra.Command{
		Use:   "status",
		Short: "Backlog, dead letters, replicas and services: the pool at a glance",
		Long: `Status prints the backlog and the streams of the pool, its replicas, and the breakers of their
services. Replicas are asked over NATS; one that is not listed did not answer in time: it is gone,
cut off, or may not subscribe to $SRV.>.`,
		Example: `  worker status
  worker status --watch
  worker status -o json | jq .state.waiting`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if every < 100*time.Millisecond {
				return usageError(fmt.Errorf("--every %v: want at least 100ms", every))
			}
			return c.administer(cmd.Context(), "status", false, func(ctx context.Context, cl *client, a *operate.Admin) error {
				if !watch {
					return c.status(ctx, cl, a)
				}
				return c.watch(ctx, every, isTerminal(c.stdout), func(ctx context.Context, c *cli) error { return c.status(ctx, cl, a) })
			})
		},
	}
	command.Flags().BoolVarP(&watch, "watch", "w", false, "print it again and again until Ctrl-C")
	command.Flags().DurationVar(&every, "every", 2*time.Second, "how often, with --watch")
	return command
}

// watch repeats show until ctx is done. On a terminal each print takes the place of the last.
func (c *cli) watch(ctx context.Context, every time.Duration, terminal bool, show func(context.Context, *cli) error) error {
	if c.output == table.Table && terminal {
		show = redrawing(show)
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		if err := show(ctx, c); err != nil {
			if ctx.Err() != nil {
				return nil // Ctrl-C is the end that was asked for
			}
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// redrawing clears the screen only when there is something to put on it. Talk is part of the
// picture: written before, it would be cleared away.
func redrawing(show func(context.Context, *cli) error) func(context.Context, *cli) error {
	return func(ctx context.Context, c *cli) error {
		var picture bytes.Buffer
		drawing := *c
		drawing.stdout, drawing.stderr = &picture, &picture
		if err := show(ctx, &drawing); err != nil {
			return err
		}
		_, err := fmt.Fprintf(c.stdout, "\x1b[H\x1b[2J%s", fit(c.stdout, picture.String()))
		return err
	}
}

// fit cuts a picture to the size of the terminal: a line that wraps, or one that scrolls, makes
// the next picture stand elsewhere.
func fit(out io.Writer, picture string) string {
	f, ok := out.(*os.File)
	if !ok {
		return picture
	}
	width, height, err := term.GetSize(int(f.Fd()))
	if err != nil || width < 2 || height < 2 {
		return picture
	}
	return crop(picture, width, height)
}

// crop cuts lines at width, and what is below height.
func crop(picture string, width, height int) string {
	lines := strings.Split(strings.TrimSuffix(picture, "\n"), "\n")
	if len(lines) > height-1 {
		lines = append(lines[:height-2], fmt.Sprintf("… %d more lines", len(lines)-height+2))
	}
	for i, line := range lines {
		if runes := []rune(line); len(runes) > width {
			lines[i] = string(runes[:width-1]) + "…"
		}
	}
	return strings.Join(lines, "\n") + "\n"
}

func (c *cli) status(ctx context.Context, cl *client, a *operate.Admin) error {
	s := poolStatus{Replicas: []jobs.ReplicaState{}}
	if cl.cfg.Streams.Source != bus.SourceCore {
		state, err := a.State(ctx)
		if err != nil {
			return err
		}
		s.State = &state
	}
	replicas, err := a.Replicas(ctx)
	if err != nil {
		return err
	}
	s.Replicas = append(s.Replicas, replicas...)
	slices.SortFunc(s.Replicas, func(a, b jobs.ReplicaState) int { return strings.Compare(a.Replica, b.Replica) })
	s.Mixed = jobs.Differences(s.Replicas)
	s.separate()
	if c.output != table.Table {
		return c.printer().Value(s)
	}
	return c.printStatus(&s)
}

func (c *cli) printStatus(s *poolStatus) error {
	var faults []error
	if s.State != nil {
		faults = append(faults,
			table.One(c.printer(), *s, stateColumns()...), c.gap(),
			table.All(c.printer(), s.State.Streams, streamColumns()...), c.gap())
	}
	if len(s.Replicas) == 0 {
		fmt.Fprintln(c.stderr, "No replica answered. 'worker run' starts one.")
		return errors.Join(faults...)
	}
	faults = append(faults, table.All(c.printer(), s.Replicas, replicaColumns()...), c.gap())
	if len(s.Mixed) > 0 {
		fmt.Fprintln(c.stderr, "The replicas have different settings: what a job needs depends on which of them takes it.")
		faults = append(faults, table.All(c.printer(), mixRows(s.Mixed), mixColumns()...), c.gap())
	}
	faults = append(faults, table.All(c.printer(), serviceRows(s.Replicas), serviceColumns()...))
	return errors.Join(faults...)
}

func (c *cli) gap() error {
	_, err := io.WriteString(c.stdout, "\n")
	return err
}

func stateColumns() []table.Column[poolStatus] {
	return []table.Column[poolStatus]{
		table.Col("pool", func(s poolStatus) string { return s.State.Pool }),
		table.Col("waiting", func(s poolStatus) string { return fmt.Sprint(s.State.Waiting) }),
		table.Col("in flight", func(s poolStatus) string { return fmt.Sprint(s.Held) }),
		table.Col("waiting for retry", func(s poolStatus) string { return fmt.Sprint(s.WaitingForRetry) }),
		table.Col("delayed", func(s poolStatus) string {
			if s.State.Delayed < 0 {
				return "unknown"
			}
			return fmt.Sprintf("%d, of all pools", s.State.Delayed)
		}),
		table.Col("oldest job", func(s poolStatus) string {
			if s.State.Oldest.IsZero() {
				return "none"
			}
			return table.Age(s.State.OldestAge())
		}),
		table.Col("stuck", func(s poolStatus) string {
			if s.State.Stuck < 0 {
				return "unknown: too many subjects to count"
			}
			return fmt.Sprint(s.State.Stuck)
		}),
		table.Col("dead letters", func(s poolStatus) string { return fmt.Sprint(s.State.DeadLetters) }),
		table.Col("intake", func(s poolStatus) string {
			if s.State.PausedUntil.IsZero() {
				return "open"
			}
			return "paused until " + table.Moment(s.State.PausedUntil)
		}),
	}
}

// separate tells jobs that replicas hold from those that wait for their next attempt. Both were
// counted at about the same time; replicas that did not answer hold some of the others.
func (s *poolStatus) separate() {
	if s.State == nil {
		return
	}
	for i := range s.Replicas {
		s.Held += s.Replicas[i].HeldJobs
	}
	s.Held = min(s.Held, s.State.InFlight)
	s.WaitingForRetry = s.State.InFlight - s.Held
}

func streamColumns() []table.Column[jobs.StreamState] {
	return []table.Column[jobs.StreamState]{
		table.Col("stream", func(s jobs.StreamState) string { return s.Name }),
		table.Col("messages", func(s jobs.StreamState) string { return fmt.Sprint(s.Messages) }),
		table.Col("bytes", func(s jobs.StreamState) string { return fmt.Sprint(s.Bytes) }),
		table.Col("copies", func(s jobs.StreamState) string {
			if s.Lagging > 0 {
				return fmt.Sprintf("%d, %d behind", s.Replicas, s.Lagging)
			}
			return fmt.Sprint(s.Replicas)
		}),
		table.Col("leader", func(s jobs.StreamState) string { return table.Name(s.Leader) }),
	}
}

func replicaColumns() []table.Column[jobs.ReplicaState] {
	return []table.Column[jobs.ReplicaState]{
		table.Col("replica", func(r jobs.ReplicaState) string { return r.Replica }),
		table.Col("state", func(r jobs.ReplicaState) string {
			if r.Phase == "working" && !r.Ready {
				return "working, not ready"
			}
			return r.Phase
		}),
		table.Col("version", func(r jobs.ReplicaState) string { return r.Version }),
		table.Col("up", func(r jobs.ReplicaState) string { return table.Age(time.Since(r.Started)) }),
		table.Col("holds", func(r jobs.ReplicaState) string { return fmt.Sprint(r.HeldJobs) }),
		table.Col("jobs/s", func(r jobs.ReplicaState) string { return fmt.Sprintf("%.1f", r.Rate) }),
		table.Col("succeeded", func(r jobs.ReplicaState) string {
			if r.Success < 0 {
				return "-"
			}
			return fmt.Sprintf("%.1f%%", float64(int(r.Success*1000))/10)
		}),
	}
}

// mixRow is one value of a setting in which replicas differ.
type mixRow struct {
	setting string
	jobs.DifferentValue
}

func mixRows(mixed []jobs.Difference) (all []mixRow) {
	for _, d := range mixed {
		for _, v := range d.Values {
			all = append(all, mixRow{d.Setting, v})
		}
	}
	return all
}

func mixColumns() []table.Column[mixRow] {
	return []table.Column[mixRow]{
		table.Col("setting", func(r mixRow) string { return r.setting }),
		table.Col("value", func(r mixRow) string { return cmp.Or(r.Value, "(none)") }),
		table.Col("replicas", func(r mixRow) string { return strings.Join(r.Replicas, ", ") }),
	}
}

// serviceRow is a service as one replica sees it.
type serviceRow struct {
	replica string
	jobs.ServiceState
}

// serviceRows lists the services of all replicas, one after the other.
func serviceRows(replicas []jobs.ReplicaState) (all []serviceRow) {
	for i := range replicas {
		for _, s := range replicas[i].Services {
			all = append(all, serviceRow{replicas[i].Replica, s})
		}
	}
	slices.SortStableFunc(all, func(a, b serviceRow) int { return strings.Compare(a.Name, b.Name) })
	return all
}

func serviceColumns() []table.Column[serviceRow] {
	return []table.Column[serviceRow]{
		table.Col("service", func(s serviceRow) string { return s.Name }),
		table.Col("replica", func(s serviceRow) string { return s.replica }),
		table.Col("breaker", func(s serviceRow) string { return string(s.Breaker) }),
		table.Col("in flight", func(s serviceRow) string { return fmt.Sprintf("%d of %d", s.InFlight, s.Limit) }),
		table.Col("last error", lastError),
	}
}

// lastError is the last error of a service, and how old it is.
func lastError(s serviceRow) string {
	if s.LastError == "" || s.LastErrorAt.IsZero() {
		return jobs.Clip(s.LastError, 100)
	}
	return table.Age(time.Since(s.LastErrorAt)) + " ago: " + jobs.Clip(s.LastError, 100)
}
