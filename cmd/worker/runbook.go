package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"rollcall/docs/runbook"
)

func (c *cli) runbookCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "runbook [alert]",
		Short: "Print the runbook page of an alert",
		Long: `Runbook prints the page of an alert: what it means, where to look, how to fix it. Without a name
it lists the alerts. It needs neither settings nor a broker.`,
		Example:           "  worker runbook\n  worker runbook RollcallBreakerOpen\n  worker runbook breakeropen",
		Args:              words(0, 1),
		ValidArgsFunction: cobra.FixedCompletions(runbook.Names(), cobra.ShellCompDirectiveNoFileComp),
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				_, err := fmt.Fprintln(c.stdout, strings.Join(runbook.Names(), "\n"))
				return err
			}
			page, found := runbook.Page(args[0])
			if !found {
				return usageError(fmt.Errorf("there is no alert %q; 'worker runbook' lists them", args[0]))
			}
			_, err := io.WriteString(c.stdout, page)
			return err
		},
	}
}
