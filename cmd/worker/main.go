// Command worker is Rollcall: a worker pool on NATS. Without arguments it runs one replica
// of a pool; see worker --help.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"syscall"

	"rollcall/internal/table"
)

// errSignal is the cause of a shutdown that a person or a supervisor asked for.
var errSignal = errors.New("asked to stop by a signal")

func main() {
	// Only libraries use the standard logger, and net/http prints the beginning of stray
	// replies to it, whatever they hold.
	log.SetOutput(io.Discard)
	ctx, cancel := context.WithCancelCause(context.Background())
	// A log or a list that nobody reads any more must not kill a worker that holds jobs: the write
	// fails instead, and its caller decides.
	signal.Ignore(syscall.SIGPIPE)
	signals := make(chan os.Signal, 2) // two: the second must not be lost while the first is handled
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	hangUps := make(chan os.Signal, 1)
	if !signal.Ignored(syscall.SIGHUP) { // it is under nohup
		signal.Notify(hangUps, syscall.SIGHUP)
	}
	go func() {
		select {
		case <-signals:
		case <-hangUps: // a terminal that closes may send several, so that none is a second one
		}
		cancel(errSignal)
		<-signals
		os.Exit(codeFailed) // a second signal ends the drain
	}()
	os.Exit(run(ctx, os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr))
}

// run is the whole program. Everything it needs of the outside is handed in, so that tests
// run it as a person would; it returns the exit code. A cancelled ctx asks it to stop in good order.
func run(ctx context.Context, args, env []string, stdin io.Reader, stdout, stderr io.Writer) int {
	c := &cli{env: env, stdin: stdin, stdout: stdout, stderr: stderr, output: table.Table}
	root := c.newRoot()
	root.SetArgs(args)
	command, err := root.ExecuteContextC(ctx)
	c.command = command.CommandPath()
	if err != nil && !c.started {
		err = usageError(fmt.Errorf("%w\nUsage: %s", err, command.UseLine()))
	}
	return c.report(err)
}
