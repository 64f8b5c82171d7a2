package bus

import (
	"context"
	"time"

	"github.com/rs/zerolog"

	"rollcall/internal/jobs"
)

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
