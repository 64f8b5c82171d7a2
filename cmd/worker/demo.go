package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"rollcall/internal/app"
	"rollcall/internal/demo"
	"rollcall/internal/devkit"
	"rollcall/internal/history"
	"rollcall/internal/telemetry"
)

const (
	// demoReplicas is how many replicas of the pool the demo runs.
	demoReplicas = 2
	// demoPatience is far above any pause that the demo's retries or a busy machine make.
	demoPatience = 30 * time.Second
)

// demoFlags are the flags of demo.
type demoFlags struct {
	jobs int
	rate float64
	keep string
}

func (c *cli) demoCommand() *cobra.Command {
	var f demoFlags
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Watch a pool work and check its results, without a server or settings",
		Long: `Demo starts a NATS server and three microservices on loopback: one answers at once, one after
20 ms, one is in trouble and puts jobs off, refuses some and answers 500 now and then. Two
replicas of a pool work through the jobs. When all are final, the stored events are read back
and checked: every job final in exactly one event, no job made up, a dead letter for each that
failed, nothing left in the stream, no service called again for a job it had done. Exit 0 only
if all of that holds.`,
		Example: `  worker demo
  worker demo --jobs 1000 --rate 200
  worker demo --keep ./demo-store -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := newTrial(c, f)
			if err != nil {
				return usageError(err)
			}
			h, err := d.run(cmd.Context())
			if err != nil {
				return err
			}
			return d.report(h)
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&f.jobs, "jobs", 10_000, "how many jobs to publish")
	flags.Float64Var(&f.rate, "rate", 0, "jobs to publish per second; 0 = as fast as possible")
	flags.StringVar(&f.keep, "keep", "", "keep the streams in this directory, which must be new or empty")
	return cmd
}

// trial is one run of the demo.
type trial struct {
	c     *cli
	flags demoFlags
	// patience is how long to wait without any further job becoming final.
	patience time.Duration
	// around is set while the demo runs.
	around *demo.Surroundings
	tally  *tally
	// sent holds when each accepted job was published, by uid.
	sent map[string]time.Time
	// begun and ended frame the run: the first job published, the last one final.
	begun, ended time.Time
	left         uint64
}

func newTrial(c *cli, f demoFlags) (*trial, error) {
	switch {
	case f.jobs < 1:
		return nil, fmt.Errorf("--jobs %d: want at least 1", f.jobs)
	case !(f.rate >= 0): // NaN is refused too
		return nil, fmt.Errorf("--rate %v: want 0 or more", f.rate)
	}
	if f.keep != "" {
		entries, err := os.ReadDir(f.keep)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("--keep: %w", err)
		}
		if len(entries) > 0 {
			return nil, fmt.Errorf("--keep %s: the directory is not empty; name a new one", f.keep)
		}
	}
	return &trial{c: c, flags: f, patience: demoPatience, tally: newTally(), sent: make(map[string]time.Time, f.jobs)}, nil
}

// run returns what the run left behind, read back from the streams. It is an error if the
// run could not be made; broken promises are for [trial.report] to find.
func (d *trial) run(ctx context.Context) (h *history.History, err error) {
	d.around, err = demo.Surround(ctx, devkit.Options{Dir: d.flags.keep}, true)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.around.Stop()) }()
	cl, err := d.prepare(ctx)
	if err != nil {
		return nil, err
	}
	defer cl.hangUp()
	accepted, err := d.work(ctx, cl)
	if err != nil {
		return nil, err
	}
	h, err = d.readBack(ctx, cl, accepted)
	if err != nil {
		return nil, fmt.Errorf("read back what the demo left: %w", err)
	}
	return h, nil
}

// prepare makes the streams and connects the producer.
func (d *trial) prepare(ctx context.Context) (*client, error) {
	inside := *d.c
	inside.env = append(d.around.Env(), "ROLLCALL_HTTP_ADDR="+demo.AnyPort, "ROLLCALL_LOG_LEVEL=error", "ROLLCALL_LOG_FORMAT=console",
		"ROLLCALL_RETRY_MIN=50ms", "ROLLCALL_RETRY_MAX=500ms") // the flaky service is never really down
	cl, err := inside.connect(ctx, "demo")
	if err != nil {
		return nil, err
	}
	log := telemetry.NewLogger(cl.cfg.Log, d.c.stderr)
	if _, err := app.Setup(ctx, cl.cfg, log, app.Options{}, false); err != nil {
		cl.hangUp()
		return nil, err
	}
	return cl, nil
}

// work runs the pool while the jobs are published and until they are final and settled.
func (d *trial) work(ctx context.Context, cl *client) ([]history.Job, error) {
	watching, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	replicas, drain := demo.Replicas(watching, stop, d.c.stderr, d.c.runOptions(), slices.Repeat([]app.Config{cl.cfg}, demoReplicas)...)
	defer replicas.Wait()
	defer drain()
	var watchers sync.WaitGroup
	defer watchers.Wait()
	watched, unwatch := context.WithCancel(watching)
	defer unwatch()
	watchers.Go(func() { d.follow(watched, cl, stop) })
	watchers.Go(func() { d.show(watched) })

	accepted, err := d.publish(watching, cl)
	if err != nil {
		return nil, err
	}
	if err := d.awaitEnd(watching, cl); err != nil {
		return nil, err
	}
	return accepted, nil
}
