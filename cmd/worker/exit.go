package main

import (
	"errors"
	"fmt"
	"syscall"

	"rollcall/internal/app"
	"rollcall/internal/bus"
	"rollcall/internal/operate"
	"rollcall/internal/settings"
	"rollcall/internal/table"
)

// The exit codes. Scripts rely on them.
const (
	codeOK            = 0
	codeFailed        = 1
	codeUsage         = 2
	codeDrainDeadline = 3
	codeNotFound      = 4
	codeUnreachable   = 5
)

// exitError is an error that knows the exit code it asks for.
type exitError struct {
	code int
	err  error
}

// Error implements error.
func (e *exitError) Error() string { return e.err.Error() }

// Unwrap returns the cause.
func (e *exitError) Unwrap() error { return e.err }

// loggedError is an error that is in the log already: the log of a worker stays one line of
// JSON after the other to its end.
type loggedError struct{ error }

// Unwrap returns the cause.
func (e *loggedError) Unwrap() error { return e.error }

// usageError marks err as a mistake in the arguments.
func usageError(err error) error { return &exitError{code: codeUsage, err: err} }

// notFound marks err as the absence of what was asked for.
func notFound(err error) error { return &exitError{code: codeNotFound, err: err} }

// exitCode maps an error to its exit code. It is the only place that does.
func exitCode(err error) int {
	var coded *exitError
	var faults *settings.FaultsError
	switch {
	case err == nil:
		return codeOK
	case errors.As(err, &coded):
		return coded.code
	case errors.As(err, &faults), errors.Is(err, bus.ErrSetting), errors.Is(err, bus.ErrTakeOver), errors.Is(err, bus.ErrRefusedSetup):
		return codeUsage
	case errors.Is(err, app.ErrDrainDeadline):
		return codeDrainDeadline
	case errors.Is(err, app.ErrMissing), errors.Is(err, operate.ErrNotFound):
		return codeNotFound
	case errors.Is(err, app.ErrUnreachable), errors.Is(err, app.ErrConnectionClosed):
		return codeUnreachable
	default:
		return codeFailed
	}
}

// report prints on stderr what went wrong and returns the exit code.
func (c *cli) report(err error) int {
	code := exitCode(err)
	if err == nil || errors.As(err, new(*loggedError)) || errors.Is(err, syscall.EPIPE) {
		return code // the reader closed the pipe: it has read enough
	}
	fmt.Fprintln(c.stderr, table.CleanLines("worker: "+err.Error()))
	switch {
	case errors.As(err, new(*settings.FaultsError)):
		fmt.Fprintln(c.stderr, "'worker config' prints every setting and where it comes from.")
	case code == codeUsage:
		fmt.Fprintf(c.stderr, "Run '%s --help' for all that it takes, with examples.\n", c.command)
	case errors.Is(err, bus.ErrDenied):
		fmt.Fprintln(c.stderr, "Operators log in with NATS_OPS_CREDS, or with NATS_OPS_USER and NATS_OPS_PASSWORD; deploy/nats/nats-server.conf has such a user.")
	case code == codeUnreachable:
		fmt.Fprintln(c.stderr, "NATS_URL says where NATS is; 'worker dev' starts one to play with.")
	}
	return code
}
