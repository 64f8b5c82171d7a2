package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/time/rate"

	"rollcall/internal/bus"
	"rollcall/internal/operate"
	"rollcall/internal/table"
)

// letterChange is what became of one dead letter.
type letterChange struct {
	Seq uint64 `json:"seq"`
	// Result is replayed or discarded, in a dry run "would be …", else kept.
	Result string `json:"result"`
	// Job is the uid of the new job.
	Job   string `json:"job,omitempty"`
	Error string `json:"error,omitempty"`
}

// changeFlags say which letters to change, and how.
type changeFlags struct {
	letterFlags
	all    bool
	dryRun bool
	yes    bool
	rate   float64
	// even replays letters of jobs that ended elsewhere.
	even bool
}

// change is something that can be done to a dead letter.
type change struct {
	// word is what a letter then is.
	word string
	// destroys is set if it cannot be undone, needsStream if the job stream takes part.
	destroys, needsStream bool
	// do does it and returns the uid of the job that was made, if any; try only looks.
	do  func(ctx context.Context, a *operate.Admin, f *changeFlags, seq uint64) (job string, err error)
	try func(ctx context.Context, a *operate.Admin, f *changeFlags, seq uint64) error
}

func (c *cli) deadReplayCommand() *cobra.Command {
	replay := change{
		word: "replayed", needsStream: true,
		do: func(ctx context.Context, a *operate.Admin, f *changeFlags, seq uint64) (string, error) {
			ref, err := a.Replay(ctx, seq, f.even)
			if ref.Seq == 0 {
				return "", err
			}
			return ref.UID(), err
		},
		try: func(ctx context.Context, a *operate.Admin, f *changeFlags, seq uint64) error {
			return a.Replayable(ctx, seq, f.even)
		},
	}
	command := c.changeCommand(replay)
	command.Use, command.Short = "replay [NUMBER...]", "Publish dead letters again as new jobs"
	command.Long = `Replay publishes the job of each letter again, body and headers as they were, under a new message
id and with Rollcall-Replay-Of, waits for NATS to confirm it, and then removes the letter. A
service may have done part of the job before: it sees a new job. A letter that was cut, or whose
deadline has passed, is kept; so is one of a job that ended in another batch, or goes on: a
worker that had lost the job wrote it. It exits 1 if any is kept.`
	command.Example = `  worker dead replay 12 13
  worker dead replay --service billing --newer-than 2h --dry-run
  worker dead replay --all --rate 50`
	return command
}

func (c *cli) deadDiscardCommand() *cobra.Command {
	discard := change{
		word: "discarded", destroys: true,
		do: func(ctx context.Context, a *operate.Admin, _ *changeFlags, seq uint64) (string, error) {
			return "", a.Discard(ctx, seq)
		},
		try: func(ctx context.Context, a *operate.Admin, _ *changeFlags, seq uint64) error {
			_, _, err := a.Letter(ctx, seq)
			return err
		},
	}
	command := c.changeCommand(discard)
	command.Use, command.Short = "discard [NUMBER...]", "Remove dead letters for ever"
	command.Long = `Discard removes dead letters for ever, and has the server overwrite them. More than those named by their numbers need --yes.`
	command.Example = `  worker dead discard 12
  worker dead discard --older-than 168h --dry-run
  worker dead discard --outcome expired --yes`
	return command
}

func (c *cli) changeCommand(ch change) *cobra.Command {
	var f changeFlags
	command := &cobra.Command{
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			seqs, numbers := letterNumbers(args)
			if err := errors.Join(f.letterFlags.check(), numbers, f.check(&ch, len(args) > 0)); err != nil {
				return usageError(err)
			}
			return c.administer(cmd.Context(), "dead", ch.needsStream, func(ctx context.Context, _ *client, a *operate.Admin) error {
				if len(args) == 0 {
					now, err := a.Now(ctx)
					if err != nil {
						return err
					}
					if seqs, err = chosen(ctx, a, f.at(now)); err != nil {
						return err
					}
				}
				return c.changeLetters(ctx, a, &f, &ch, seqs, len(args) == 1)
			})
		},
	}
	f.register(command)
	flags := command.Flags()
	flags.BoolVar(&f.all, "all", false, "all of the pool's dead letters that the filters leave")
	flags.BoolVar(&f.dryRun, "dry-run", false, "only show what would be done")
	flags.Float64Var(&f.rate, "rate", 0, "at most so many a second; 0 for no limit")
	if ch.destroys {
		flags.BoolVarP(&f.yes, "yes", "y", false, "do it, though it cannot be undone")
	} else {
		flags.BoolVarP(&f.yes, "yes", "y", false, "does nothing: a replay asks no question")
		flags.BoolVar(&f.even, "even-if-succeeded", false, "also letters of jobs that ended in another batch, or have not ended")
	}
	return command
}

// check returns what is wrong with the choice of letters.
func (f *changeFlags) check(ch *change, numbered bool) error {
	unfiltered := f.everything()
	switch {
	case !(f.rate >= 0): // NaN is refused too
		return fmt.Errorf("--rate %v: want 0 or more", f.rate)
	case numbered && (f.all || !unfiltered):
		return errors.New("numbers and filters are both given: keep one")
	case ch.destroys && f.all && !unfiltered:
		return errors.New("--all and filters are both given: keep one")
	case !numbered && !f.all && unfiltered:
		return errors.New("say which: numbers, a filter, or --all")
	case !numbered && ch.destroys && !f.yes && !f.dryRun:
		return errors.New("this cannot be undone: look with --dry-run, then add --yes")
	}
	return nil
}

// chosen lists the letters before any is changed: what dies meanwhile is not among them.
func chosen(ctx context.Context, a *operate.Admin, filter operate.LetterFilter) (seqs []uint64, err error) {
	err = a.Letters(ctx, filter, func(l bus.Letter) error {
		seqs = append(seqs, l.Seq)
		return nil
	})
	return seqs, err
}

// changeLetters changes one letter after the other and prints what became of each. It goes on
// after a letter that could not be changed. The error of a letter asked for alone is its own.
func (c *cli) changeLetters(ctx context.Context, a *operate.Admin, f *changeFlags, ch *change, seqs []uint64, alone bool) error {
	limit := rate.Inf
	if f.rate > 0 {
		limit = rate.Limit(f.rate)
	}
	pace := rate.NewLimiter(limit, 1)
	out := table.NewRows(c.printer(), 0, changeColumns()...)
	bar := c.progress(len(seqs), ch.word)
	done, kept := 0, 0
	var fault error
	for _, seq := range seqs {
		if fault = pace.Wait(ctx); fault != nil {
			break
		}
		result, err := f.apply(ctx, a, ch, seq)
		if ctx.Err() != nil && err != nil {
			fault = err
			break
		}
		if err != nil {
			kept++
			if alone {
				fault = err
			}
		} else {
			done++
		}
		bar()
		if err := out.Print(result); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		fault = fmt.Errorf("stopped: %s, the rest is kept", f.count(ch, done, len(seqs)))
	} else if fault == nil && kept > 0 {
		were := "were not"
		if f.dryRun {
			were = "would not be"
		}
		fault = fmt.Errorf("%d of %d dead letters %s %s", kept, len(seqs), were, ch.word)
	}
	err := errors.Join(fault, out.Close())
	if err == nil && !alone && (c.output == table.Table || len(seqs) == 0) {
		fmt.Fprintln(c.stderr, f.count(ch, done, len(seqs))+".")
	}
	return err
}

// count says how many letters were changed.
func (f *changeFlags) count(ch *change, done, all int) string {
	word := ch.word
	if f.dryRun {
		word = "would be " + word
	}
	if all == 0 {
		return "No dead letters"
	}
	return fmt.Sprintf("%d of %d dead letters %s", done, all, word)
}

func (f *changeFlags) apply(ctx context.Context, a *operate.Admin, ch *change, seq uint64) (result letterChange, err error) {
	result = letterChange{Seq: seq, Result: ch.word}
	if f.dryRun {
		result.Result = "would be " + ch.word
		err = ch.try(ctx, a, f, seq)
	} else {
		result.Job, err = ch.do(ctx, a, f, seq)
	}
	if err != nil {
		result.Result, result.Error = "kept", err.Error()
	}
	return result, err
}

func changeColumns() []table.Column[letterChange] {
	return []table.Column[letterChange]{
		table.Col("number", func(l letterChange) string { return strconv.FormatUint(l.Seq, 10) }).Wide(6),
		table.Col("result", func(l letterChange) string { return l.Result }).Wide(9),
		table.Col("job", func(l letterChange) string { return l.Job }).Wide(uidWidth),
		table.Col("error", func(l letterChange) string { return l.Error }),
	}
}

// progress shows a bar on stderr and returns what moves it on by one. There is none where a
// person could not see it, or would see it between the lines of a table.
func (c *cli) progress(n int, what string) (advance func()) {
	if n < 2 || !isTerminal(c.stderr) || isTerminal(c.stdout) && c.output == table.Table {
		return func() {}
	}
	bar := progressbar.NewOptions(n, progressbar.OptionSetWriter(c.stderr), progressbar.OptionSetDescription(what),
		progressbar.OptionShowCount(), progressbar.OptionClearOnFinish())
	return func() { _ = bar.Add(1) } // nobody is worse off without a bar
}
