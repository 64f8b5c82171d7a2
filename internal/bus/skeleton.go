package bus

import (
	"context"
	"time"

	"github.com/rs/zerolog"

	"rollcall/internal/jobs"
)

// PageStore is the broker's side of the ledger.
type PageStore interface {
	// Apply stores all writes, in their order and at adjacent sequences, or none of them,
	// and returns the sequence of the first.
	Apply(ctx context.Context, writes []Write) (first uint64, err error)
	// Read returns the last message of each of the subjects that has one, in any order.
	Read(ctx context.Context, subjects []string) ([]Entry, error)
}

// Write is one message of an atomic group.
type Write struct {
	Subject string
	// Expect is the sequence of the last message on Subject, 0 for none.
	Expect uint64
	// TTL after which the message is removed; 0 = never.
	TTL         time.Duration
	ContentType string
	Traceparent string
	Data        []byte
}

// Entry is a stored message.
type Entry struct {
	Subject string
	Seq     uint64
	Data    []byte
}

// NewPageStore keeps the ledger in the DONE stream.
func NewPageStore(conn *Conn) PageStore { panic("skeleton") }

// Ledger implements pool.Ledger.
type Ledger struct{}

func NewLedger(store PageStore, pool string, ttl time.Duration, log zerolog.Logger) *Ledger {
	panic("skeleton")
}

// Run commits what waits until ctx is done. It must run while Commit and BeginLone are used.
func (l *Ledger) Run(ctx context.Context) error                                    { panic("skeleton") }
func (l *Ledger) Load(ctx context.Context, refs []jobs.Ref) ([]jobs.Record, error) { panic("skeleton") }
func (l *Ledger) Commit(ctx context.Context, s *jobs.Settlement) error             { panic("skeleton") }
func (l *Ledger) BeginLone(ctx context.Context, ref jobs.Ref, lone int) error      { panic("skeleton") }

// DeadLetters implements pool.DeadLetters.
type DeadLetters struct{}

func NewDeadLetters(conn *Conn, pool string) *DeadLetters { panic("skeleton") }
func (d *DeadLetters) Publish(ctx context.Context, letters []jobs.DeadLetter) error {
	panic("skeleton")
}

// Sweeper keeps the ledger small.
type Sweeper struct{}

func NewSweeper(conn *Conn, setup *Setup, log zerolog.Logger) *Sweeper {
	panic("skeleton")
}
func (s *Sweeper) Run(ctx context.Context) error { panic("skeleton") }

// CoreSource implements pool.Source and pool.Settler on plain subjects.
type CoreSource struct{}

func NewCoreSource(conn *Conn, streams Streams, pool string, log zerolog.Logger) (*CoreSource, error) {
	panic("skeleton")
}
func (s *CoreSource) Receive(ctx context.Context, room jobs.Room) ([]jobs.Delivery, error) {
	panic("skeleton")
}
func (s *CoreSource) Ack(d *jobs.Delivery) error                      { panic("skeleton") }
func (s *CoreSource) Nak(d *jobs.Delivery, delay time.Duration) error { panic("skeleton") }
func (s *CoreSource) Extend(d *jobs.Delivery) error                   { panic("skeleton") }
func (s *CoreSource) Healthy() error                                  { panic("skeleton") }
func (s *CoreSource) Close(ctx context.Context) error                 { panic("skeleton") }

// CoreLedger implements pool.Ledger without a stream.
type CoreLedger struct{}

func NewCoreLedger(conn *Conn) *CoreLedger { panic("skeleton") }
func (l *CoreLedger) Load(ctx context.Context, refs []jobs.Ref) ([]jobs.Record, error) {
	panic("skeleton")
}
func (l *CoreLedger) Commit(ctx context.Context, s *jobs.Settlement) error        { panic("skeleton") }
func (l *CoreLedger) BeginLone(ctx context.Context, ref jobs.Ref, lone int) error { panic("skeleton") }

// Event is a stored completion event.
type Event struct {
	Pool    string
	Outcome jobs.BatchOutcome
	BatchID string
	// Seq in the DONE stream, 0 when heard on the plain subject.
	Seq  uint64
	Time time.Time
	Data []byte
}

// Events reads completion events.
type Events struct{}

func NewEvents(conn *Conn) *Events { panic("skeleton") }

// Stored calls each for the stored events of a pool ("*" for all) from sequence from on; it
// returns when those stored at the call are read, or with follow when ctx is done.
func (e *Events) Stored(ctx context.Context, pool string, from uint64, follow bool, each func(Event) error) error {
	panic("skeleton")
}

// Heard calls each for the events told on the plain subjects from now on, until ctx is done.
func (e *Events) Heard(ctx context.Context, pool string, each func(Event) error) error {
	panic("skeleton")
}
