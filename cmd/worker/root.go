package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"rollcall/internal/table"
)

// cli is what every command gets of the outside. No command reads the process itself.
type cli struct {
	env    []string
	stdin  io.Reader
	stdout io.Writer // data, and nothing else
	stderr io.Writer // talk: progress, logs, errors
	output table.Format
	// started is set once a command's own code began; what fails before is a fault of usage.
	started bool
	// command is what was run, with the commands that it is part of.
	command string
}

// printer prints data on stdout.
func (c *cli) printer() table.Printer { return table.Printer{Out: c.stdout, Format: c.output} }

// The groups that the help lists commands in.
const (
	groupTry     = "try"
	groupWork    = "work"
	groupWatch   = "watch"
	groupOperate = "operate"
)

const rootExample = `  worker demo                      see it all work, without a server or settings
  worker dev                       a NATS server and demo services to play with
  ROLLCALL_SERVICES=billing=http://localhost:9000/jobs worker run
  worker publish jobs.mail '{"to":"ann"}' --wait`

func (c *cli) newRoot() *cobra.Command {
	run := c.runCommand()
	root := &cobra.Command{
		Use:   "worker",
		Short: "Rollcall: a worker pool on NATS",
		Long: `Rollcall takes jobs from NATS subjects, sends them in batches to your microservices, all at
once, and commits exactly one completion event per batch.

Without a command it runs one replica, like 'worker run'. Settings come from the environment;
'worker config' lists them.`,
		Example:       rootExample,
		RunE:          run.RunE,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetIn(c.stdin)
	root.SetOut(c.stdout)
	root.SetErr(c.stderr)
	root.PersistentFlags().VarP(&c.output, "output", "o", "how to print data: table, json or jsonl")
	root.AddGroup(
		&cobra.Group{ID: groupTry, Title: "Try it:"},
		&cobra.Group{ID: groupWork, Title: "Work:"},
		&cobra.Group{ID: groupWatch, Title: "Look after a pool:"},
		&cobra.Group{ID: groupOperate, Title: "Set up:"},
	)
	add := func(group string, commands ...*cobra.Command) {
		for _, command := range commands {
			command.GroupID = group
		}
		root.AddCommand(commands...)
	}
	add(groupTry, c.demoCommand(), c.devCommand(), c.demoServicesCommand())
	add(groupWork, run, c.publishCommand(), c.scheduleCommand(), c.eventsCommand())
	add(groupWatch, c.statusCommand(), c.jobCommand(), c.cancelCommand(), c.eraseCommand(), c.setCommand(), c.deadCommand(), c.pauseCommand(), c.resumeCommand(), c.drainCommand(), c.runbookCommand())
	add(groupOperate, c.setupCommand(), c.checkCommand(), c.doctorCommand(), c.configCommand(), c.probeCommand(), c.versionCommand())
	root.SetHelpCommandGroupID(groupOperate)
	root.SetCompletionCommandGroupID(groupOperate)
	c.markStart(root)
	return root
}

// markStart notes when a command's own code begins, so that a mistake in the arguments can be
// distinguished from a failure of the work.
func (c *cli) markStart(command *cobra.Command) {
	if inner := command.RunE; inner != nil {
		command.RunE = func(cmd *cobra.Command, args []string) error {
			if err := noEmptyFlag(cmd); err != nil {
				return err
			}
			c.started = true
			return inner(cmd, args)
		}
	}
	for _, child := range command.Commands() {
		c.markStart(child)
	}
}

// noEmptyFlag refuses a flag that is given without a value, unless that ends a default: a variable of a script that was
// not set must not make a job one of many, nor a filter choose everything.
func noEmptyFlag(cmd *cobra.Command) (err error) {
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if f.Value.Type() == "string" && f.Value.String() == "" && f.DefValue == "" {
			err = usageError(fmt.Errorf("--%s is empty: give it a value, or leave it out", f.Name))
		}
	})
	return err
}

// knownSubcommand refuses an unknown subcommand and names those that may be meant.
func knownSubcommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	text := fmt.Sprintf("unknown command %q for %q", args[0], cmd.CommandPath())
	if cmd.SuggestionsMinimumDistance == 0 {
		cmd.SuggestionsMinimumDistance = 2 // as cobra itself does for the root
	}
	// cobra names a command twice that is both near and meant.
	for i, name := range slices.Compact(cmd.SuggestionsFor(args[0])) {
		if i == 0 {
			text += "; did you mean "
		} else {
			text += ", "
		}
		text += "'" + cmd.CommandPath() + " " + name + "'"
	}
	return errors.New(text)
}

// words refuses a wrong number of arguments in the words of the command's usage.
func words(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return errors.New("an argument is missing")
		case len(args) > most:
			return fmt.Errorf("%q is one argument too many", args[most])
		}
		return nil
	}
}

// given reports whether a variable is set.
func (c *cli) given(name string) bool {
	return slices.ContainsFunc(c.env, func(entry string) bool {
		value, found := strings.CutPrefix(entry, name+"=")
		return found && value != ""
	})
}
