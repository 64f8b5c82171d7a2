package proc

import (
	"bytes"
	"strings"
	"sync"
)

// maxTail is how many bytes of a child's standard error are kept for messages.
const maxTail = 4 << 10

// firstLine is a writer that hands over the first line written to it and drops the rest.
type firstLine struct {
	line chan string // of capacity 1: the one line, so that no writer ever blocks
	buf  bytes.Buffer
	done bool
}

func newFirstLine() *firstLine { return &firstLine{line: make(chan string, 1)} }

// Write implements io.Writer. It is called by one goroutine only, that of exec.Cmd.
func (w *firstLine) Write(b []byte) (int, error) {
	if w.done {
		return len(b), nil
	}
	w.buf.Write(b)
	if line, err := w.buf.ReadString('\n'); err == nil {
		w.line <- strings.TrimSpace(line)
		w.done = true
	} else {
		w.buf.WriteString(line)
	}
	return len(b), nil
}

// tail is a writer that keeps the end of what was written to it.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

// Write implements io.Writer.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, b...)
	if over := len(t.buf) - maxTail; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(b), nil
}

// String returns what was kept.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.buf))
}
