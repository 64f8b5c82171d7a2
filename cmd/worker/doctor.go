package main

import (
	"errors"
	"fmt"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"rollcall/internal/app"
	"rollcall/internal/operate"
	"rollcall/internal/table"
)

func (c *cli) doctorCommand() *cobra.Command {
	var monitor string
	command := &cobra.Command{
		Use:   "doctor",
		Short: "Check everything a replica depends on, and say how to fix each fault",
		Long: `Doctor checks the connection, the rights of the user (a denial looks like a time-out to a
worker; doctor names the missing subject), streams and consumer, how writes reach the disk,
limits, clocks, and what each service says to an empty batch (one that takes a request per job
is only connected to, one on NATS is not tried). It changes nothing. It exits 0 unless something
is an error.`,
		Example: `  worker doctor
  worker doctor --monitor http://nats:8222 -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := app.Load(c.env)
			if err != nil {
				return err
			}
			opts := app.Options{Replica: "doctor", Patience: commandPatience}
			findings, err := app.Doctor(cmd.Context(), cfg, zerolog.Nop(), opts, monitor)
			if printing := c.printFindings(findings); printing != nil {
				return errors.Join(err, printing)
			}
			if err != nil {
				return err
			}
			return findingsError(findings)
		},
	}
	command.Flags().StringVar(&monitor, "monitor", "", "URL of the server's monitoring port (default port 8222 of the server)")
	return command
}

func (c *cli) printFindings(findings []operate.Finding) error {
	return table.All(c.printer(), findings,
		table.Col("check", func(f operate.Finding) string { return f.Check }),
		table.Col("health", func(f operate.Finding) string { return string(f.Health) }),
		table.Col("detail", func(f operate.Finding) string {
			if f.Remedy == "" {
				return f.Detail
			}
			return f.Detail + ". " + f.Remedy
		}),
	)
}

// findingsError is an error if a finding is one.
func findingsError(findings []operate.Finding) error {
	broken := 0
	for _, f := range findings {
		if f.Health == operate.Broken {
			broken++
		}
	}
	if broken == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d checks found an error", broken, len(findings))
}
