package pool

import (
	"context"
	"errors"
	"time"

	"rollcall/internal/jobs"
)

var errLeaseLost = errors.New("the lease could not be renewed in time")

// state is where a sealed batch stands.
type state uint8

const (
	// stateReady: it waits for a slot.
	stateReady state = iota
	// stateCalling: it holds a slot, and its services are called.
	stateCalling
	// stateSettling: its slot is free again; it waits for its commit.
	stateSettling
	// stateSettled: its acks and naks go out. From here on a delivery of one of its jobs is a new one.
	stateSettled
	// stateReleased: its jobs are given back without a record.
	stateReleased
	// stateLost: its lease is over. The jobs are somebody else's.
	stateLost
)

// leadsTo says which state may follow which; doc.go draws it.
func (s state) leadsTo(next state) bool {
	switch s {
	case stateReady:
		return next == stateCalling || next == stateReleased || next == stateLost
	case stateCalling:
		return next == stateSettling || next == stateLost
	case stateSettling:
		return next == stateSettled || next == stateReleased || next == stateLost
	default:
		return false
	}
}

// flight is a sealed batch until its end. The dispatcher owns it; the executor of its batch and the
// dispatcher both move its state.
type flight struct {
	// batch is as it was sealed. It is never changed.
	batch *jobs.Batch
	// room is what its jobs take, in count and bytes.
	room jobs.Room
	// alone means that nothing else may be called for beside it.
	alone bool
	// lease is cancelled when the lease of the jobs is lost.
	lease  context.Context
	cancel context.CancelCauseFunc
	// called runs when the calls have ended, with the bytes that their replies take; lost runs
	// of jobs whose lease is lost.
	called func(kept int64)
	lost   func([]*jobs.Job)
	// slot means that it holds a slot, since begun. Only the dispatcher touches these.
	slot  bool
	begun time.Time
	// kept are the bytes beyond room that its settlement takes.
	kept int64
	// spent are the jobs of a committed batch, and sheet is what they were settled on: set by the
	// executor before its end, for the dispatcher to have them used again.
	spent []*jobs.Job
	sheet *sheet

	// turn holds one token while somebody reads or changes the state. It is no mutex because whoever
	// holds it may wait for the connection: in a bubble of testing/synctest no time passes for who
	// waits for a mutex.
	turn  chan struct{}
	state state
}

func newFlight(b *jobs.Batch) *flight {
	f := &flight{batch: b, room: roomOf(b.Jobs), turn: make(chan struct{}, 1)}
	f.lease, f.cancel = context.WithCancelCause(context.Background())
	return f
}

// suspect reports whether the batch is called for because its jobs may be crashing the process.
func (f *flight) suspect() bool { return f.batch.Seal == jobs.SealLone }

// move brings the flight into another state, unless the one it is in does not lead there: a
// flight whose lease is lost can no longer be settled, and one that is settled cannot lose it.
func (f *flight) move(to state) bool {
	f.turn <- struct{}{}
	defer func() { <-f.turn }()
	if !f.state.leadsTo(to) {
		return false
	}
	f.state = to
	if to == stateLost {
		f.cancel(errLeaseLost)
	}
	return true
}

// whileHeld calls visit with the jobs if the flight still has a claim to them, and lets it keep that
// claim meanwhile: an extension that goes out after a nak undoes its delay, and the job comes
// back when the lease is over (server/consumer.go, progressUpdate).
func (f *flight) whileHeld(visit func(members []*jobs.Job)) {
	f.turn <- struct{}{}
	defer func() { <-f.turn }()
	if f.state <= stateSettling {
		visit(f.batch.Jobs)
	}
}

// end releases the watcher of the lease.
func (f *flight) end() { f.cancel(nil) }
