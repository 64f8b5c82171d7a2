package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"rollcall/internal/app"
	"rollcall/internal/settings"
	"rollcall/internal/table"
)

func (c *cli) configCommand() *cobra.Command {
	var markdown bool
	command := &cobra.Command{
		Use:   "config",
		Short: "Print the settings, where each came from, and every fault in them",
		Long: `Config prints every setting with its value and whether that is the default, comes from the
environment or from a file. Secrets are masked. With faults it lists them all and exits 2.`,
		Example: `  worker config
  worker config -o json | jq '.[] | select(.source != "default")'`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if markdown {
				_, err := fmt.Fprint(c.stdout, app.Markdown())
				return err
			}
			all, faults := app.Settings(c.env)
			err := table.All(c.printer(), all,
				table.Col("variable", func(s settings.Setting) string { return s.Name }),
				table.Col("value", func(s settings.Setting) string { return s.Value }),
				table.Col("source", func(s settings.Setting) string { return s.Source }),
			)
			if err != nil {
				return err
			}
			return faults
		},
	}
	command.Flags().BoolVar(&markdown, "markdown", false, "print the table for the documentation")
	if err := command.Flags().MarkHidden("markdown"); err != nil {
		panic(err)
	}
	return command
}
