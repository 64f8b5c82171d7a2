package main

import (
	"errors"
	"fmt"
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

// usageError marks err as a mistake in the arguments.
func usageError(err error) error { return &exitError{code: codeUsage, err: err} }

// notFound marks err as the absence of what was asked for.
func notFound(err error) error { return &exitError{code: codeNotFound, err: err} }

// exitCode maps an error to its exit code. It is the only place that does.
func exitCode(err error) int {
	var coded *exitError
	switch {
	case err == nil:
		return codeOK
	case errors.As(err, &coded):
		return coded.code
	default:
		return codeFailed
	}
}

// report tells a person on stderr what went wrong and returns the exit code.
func (c *cli) report(err error) int {
	code := exitCode(err)
	if err != nil {
		fmt.Fprintf(c.stderr, "worker: %v\n", err)
	}
	if code == codeUsage {
		fmt.Fprintln(c.stderr, "Run 'worker --help' for the commands and their flags.")
	}
	return code
}
