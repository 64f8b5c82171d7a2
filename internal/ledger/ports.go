package ledger

import (
	"context"
	"time"
)

// Store is the broker's side of the ledger. Everything else about the ledger is logic on top of
// it, without sockets, so that a store in memory can drive it as well.
type Store interface {
	// Apply stores all writes in their order, at adjacent sequences, or none of them, and
	// returns the sequence of the first. It stores them only if the last message on every
	// write's subject has the sequence that the write expects. Subjects must differ.
	//
	// The error is, or wraps, [ErrStale] if an expectation does not hold, [ErrBusy] if the
	// store cannot take the group now, and [ErrRefused] if it never will; in all three
	// cases nothing was stored. After any other error the group may or may not have been
	// stored, or may still be: until a later write to one of its subjects is seen.
	Apply(ctx context.Context, writes []Write) (first uint64, err error)

	// Read returns the last message on each of the subjects that has one, in any order. Subjects
	// may have NATS wildcards; the error wraps [ErrTooMany] if more than about [MaxGroup] match.
	// Messages of one Apply are seen all or none, as long as there are at most
	// [MaxGroup] subjects. A store that reads from followers may
	// return data older than the last Apply, but not for ever.
	Read(ctx context.Context, subjects []string) ([]Entry, error)
}

// Upkeep is what keeps the ledger small. Filters are subjects with NATS wildcards.
type Upkeep interface {
	Store
	// Floor says which jobs are settled at the broker.
	Floor(ctx context.Context) (Floor, error)
	// Scan returns messages on subjects that match filter, from sequence from on, the oldest
	// first: none after the last, and else as many as suit one request.
	Scan(ctx context.Context, filter string, from uint64) ([]Entry, error)
	// Newest returns the newest message on the subjects that match filter, a zero Entry if
	// there is none.
	Newest(ctx context.Context, filter string) (Entry, error)
	// Purge removes the messages on the subjects that match filter, and returns how many.
	Purge(ctx context.Context, filter string) (uint64, error)
}

// MaxGroup is the most writes an [Store.Apply] takes, and the most subjects whose messages a Read
// sees at one moment.
const MaxGroup = 1000

// Write is one message of a group.
type Write struct {
	Subject string
	// Expect is the sequence of the last message on Subject, 0 for none.
	Expect uint64
	// TTL after which the message is removed; 0 = with the stream's own age limit.
	TTL time.Duration
	// ContentType and Traceparent are headers; empty = none.
	ContentType string
	Traceparent string
	Data        []byte
}

// Entry is a stored message. The zero Entry is none.
type Entry struct {
	Subject string
	Seq     uint64
	// Stored is when the broker stored it, by its clock.
	Stored time.Time
	Data   []byte
}

// Floor is what is settled at the broker: every job of the stream's epoch up to Seq, and of every
// older epoch.
type Floor struct {
	// Created is when the job stream was; its epoch follows from that.
	Created time.Time
	Seq     uint64
	// Now is the broker's clock.
	Now time.Time
}
