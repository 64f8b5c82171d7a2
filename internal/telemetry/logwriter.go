package telemetry

import (
	"io"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

const (
	// logQueue and logBytes bound the lines that wait for the reader of the log: a pipe whose
	// reader stands still takes 64 KiB and nothing more.
	logQueue = 1024
	logBytes = 1 << 20
)

// Log is a logger that nobody has to wait for: a reader that is too slow, or gone, costs lines
// and holds up nothing.
type Log struct {
	zerolog.Logger
	writer *lineWriter
}

// OpenLog returns a log whose lines are written to out one after the other. The caller owes a
// call of Close.
func OpenLog(c Config, out io.Writer) *Log {
	direct := NewLogger(c, out)
	w := &lineWriter{out: out, lines: make(chan []byte, logQueue), closing: make(chan struct{}), ended: make(chan struct{})}
	w.report = func(lines uint64) {
		direct.Warn().Uint64("lines", lines).Msg("log lines were dropped: nobody reads the log fast enough")
	}
	go w.run()
	return &Log{Logger: NewLogger(c, w), writer: w}
}

// Dropped counts the lines that were lost.
func (l *Log) Dropped() uint64 { return l.writer.dropped.Load() }

// Close writes what waits, within patience: a reader that does not read is left behind.
func (l *Log) Close(patience time.Duration) {
	close(l.writer.closing)
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-l.writer.ended:
	case <-t.C:
	}
}

// lineWriter passes lines on to out from a goroutine of its own.
type lineWriter struct {
	out     io.Writer
	lines   chan []byte
	closing chan struct{}
	ended   chan struct{}
	// report logs how many lines were lost; run calls it once lines flow again.
	report func(lines uint64)

	queued   atomic.Int64
	dropped  atomic.Uint64
	reported uint64
}

// Write implements io.Writer. It never blocks and never fails: a line that finds no room is
// dropped and counted.
func (w *lineWriter) Write(line []byte) (int, error) {
	n := int64(len(line))
	if w.queued.Add(n) > logBytes {
		w.drop(n)
		return len(line), nil
	}
	select {
	case w.lines <- append([]byte(nil), line...): // zerolog uses its buffer again
	default:
		w.drop(n)
	}
	return len(line), nil
}

func (w *lineWriter) drop(n int64) {
	w.queued.Add(-n)
	w.dropped.Add(1)
}

// run writes until closing, and then what waits.
func (w *lineWriter) run() {
	defer close(w.ended)
	for {
		select {
		case line := <-w.lines:
			w.pass(line)
		case <-w.closing:
			for {
				select {
				case line := <-w.lines:
					w.pass(line)
				default:
					return
				}
			}
		}
	}
}

func (w *lineWriter) pass(line []byte) {
	_, err := w.out.Write(line)
	w.queued.Add(-int64(len(line)))
	if err != nil {
		w.dropped.Add(1)
		return
	}
	if dropped := w.dropped.Load(); dropped > w.reported {
		w.report(dropped - w.reported)
		w.reported = dropped
	}
}
