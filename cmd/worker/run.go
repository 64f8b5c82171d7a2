package main

import (
	"errors"
	"math"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"rollcall/internal/app"
	"rollcall/internal/telemetry"
)

// logPatience is how long the end of a worker waits for the reader of its log.
const logPatience = time.Second

func (c *cli) runCommand() *cobra.Command {
	profiles := ""
	command := &cobra.Command{
		Use:   "run",
		Short: "Run one replica of a pool until SIGTERM or Ctrl-C",
		Long: `Run takes jobs until SIGTERM, SIGINT or SIGHUP. Then it takes no more, finishes and commits what it
holds and exits 0; at ROLLCALL_DRAIN_TIMEOUT it cuts off what is left, gives the jobs back and
exits 3. A second signal leaves at once. The log goes to stderr, on a terminal for people unless
ROLLCALL_LOG_FORMAT says otherwise.`,
		Example: `  ROLLCALL_SERVICES=billing=http://localhost:9000/jobs worker run
  ROLLCALL_LOG_FORMAT=console ROLLCALL_LOG_LEVEL=debug worker run`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			cfg, err := app.LoadRun(c.env)
			if err != nil {
				return err
			}
			if isTerminal(c.stderr) && !c.given("ROLLCALL_LOG_FORMAT") {
				cfg.Log.Format = telemetry.FormatConsole // a person looks on
			}
			if profiles != "" {
				stop, err := startProfiles(profiles)
				if err != nil {
					return err
				}
				defer func() { err = errors.Join(err, stop()) }()
			}
			log := telemetry.OpenLog(cfg.Log, c.stderr)
			defer log.Close(logPatience)
			limitMemory(log.Logger)
			options := c.runOptions()
			options.LogDropped = log.Dropped
			if err := app.Run(cmd.Context(), cfg, log.Logger, options); err != nil {
				log.Error().Err(err).Msg("stopped")
				return &loggedError{err}
			}
			log.Info().Msg("stopped")
			return nil
		},
	}
	command.Flags().StringVar(&profiles, "pprof-dir", "", "write CPU, heap, mutex and block profiles to this folder; for make profile")
	if err := command.Flags().MarkHidden("pprof-dir"); err != nil {
		panic(err) // the flag is defined one line above
	}
	return command
}

// memoryShare is how much of a container's memory the Go runtime may use before it collects more
// often; the rest is for what it does not count: the binary, the kernel's buffers of connections.
const memoryShare = 0.8

// limitMemory makes the limit of the container known to the Go runtime, which would otherwise let
// garbage grow to the size of what lives, and be killed for it. GOMEMLIMIT overrides it.
func limitMemory(log zerolog.Logger) {
	limit, err := memlimit.Set(memlimit.WithRatio(memoryShare))
	switch {
	case err != nil:
		log.Debug().Err(err).Msg("the memory limit of the container is not known")
	case limit < math.MaxInt64:
		log.Info().Int64("bytes", limit).Msg("memory limit")
	}
}

// runOptions is what this process knows of itself.
func (c *cli) runOptions() app.Options {
	b := thisBuild()
	return app.Options{Version: b.Version, Revision: b.Revision, Traces: telemetry.TracingWanted(c.env)}
}
