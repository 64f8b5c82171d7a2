package ledger

import "errors"

// Errors that callers branch on.
var (
	// ErrStale is returned by a [Store] that refused a group because an expectation of one of
	// its writes does not hold. Nothing of the group was stored.
	ErrStale = errors.New("a subject has moved on")
	// ErrBusy is returned by a [Store] that cannot take a group now. Nothing of the group was
	// stored; the same group may be tried again.
	ErrBusy = errors.New("the broker cannot take the group now")
	// ErrRefused is returned by a [Store] that will never take a group: it is too large, or the
	// stream lacks a setting. Nothing of it was stored.
	ErrRefused = errors.New("the broker refuses the group")
	// ErrTooMany is returned by a [Store] where more messages match the subjects of a Read than
	// one answer holds.
	ErrTooMany = errors.New("more messages than one read returns")
	// ErrSetBack is returned for jobs that were received before the broker's data was set back
	// ([Ledger.Restart]): the broker may hold other jobs under their numbers.
	ErrSetBack = errors.New("the broker's data was set back since the job was received")
	// ErrClosed is returned by a [Ledger] whose Run has ended.
	ErrClosed = errors.New("closed")
)
