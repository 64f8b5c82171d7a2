package main

import (
	"errors"

	"github.com/spf13/cobra"
)

func (c *cli) runCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "run",
		Short: "Run one replica of a pool until it is told to stop",
		Long: `Run takes jobs until SIGTERM or SIGINT. Then it takes no more, finishes and commits what it
holds and exits 0; at ROLLCALL_DRAIN_TIMEOUT it cuts off what is left, gives the jobs back and
exits 3. A second signal leaves at once.`,
		Example: "  ROLLCALL_SERVICES=billing=http://localhost:9000/jobs worker run",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return errors.New("not wired yet")
		},
	}
}
