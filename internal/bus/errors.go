package bus

import "errors"

// Errors that callers branch on.
var (
	// ErrUnreachable is returned by Connect when no server answered in time.
	ErrUnreachable = errors.New("no NATS server could be reached")
	// ErrServerTooOld is returned when the server lacks what the ledger is built on.
	ErrServerTooOld = errors.New("the NATS server is too old")
	// ErrMissing is returned when a stream or the consumer does not exist and may not be created.
	ErrMissing = errors.New("missing on the NATS server")
	// ErrRefusedSetup is returned when the pool must not start with these settings on what the
	// server has: it would lose, repeat or fake jobs.
	ErrRefusedSetup = errors.New("refused")
	// ErrDenied is returned when the server does not let this user do what is asked for; the text
	// names the missing right.
	ErrDenied = errors.New("the server denies this user")
	// ErrClosed is returned by what was closed or whose Run has ended.
	ErrClosed = errors.New("closed")

	errUnbound = errors.New("not yet bound to the consumer")
)

// Error codes of the JetStream API (server/jetstream_errors_generated.go).
const (
	errIncompleteGroup    = 10176
	errGroupTooLarge      = 10199
	errTooManyGroups      = 10210
	errWrongLastSeq       = 10071
	errWrongLastSeqConst  = 10164
	errSubjectsOverlap    = 10065
	errMultipleUnfiltered = 10099
	errFilterNotUnique    = 10100
	errMaxAckPending      = 10121
	errMaxBytesRequired   = 10113
	errStreamBytes        = 10122
	errNoStorage          = 10047
)
