package pool

import (
	"slices"
	"sync"
	"sync/atomic"

	"rollcall/internal/jobs"
)

// body is the encoded call of some jobs.
type body struct {
	text []byte
	// readers counts the calls that may still read it.
	readers atomic.Int32
}

// bodies are the encoded calls of one batch. Most services miss the same jobs and share one.
type bodies struct {
	buffers *buffers
	parts   [][]*jobs.Job
	encoded []*body
}

func (b *bodies) of(part []*jobs.Job) *body {
	for i, known := range b.parts {
		if slices.Equal(known, part) {
			return b.encoded[i]
		}
	}
	fresh := &body{text: jobs.AppendCall(b.buffers.get(jobs.CallSize(part)), part)}
	b.parts, b.encoded = append(b.parts, part), append(b.encoded, fresh)
	return fresh
}

// free gives the memory of the bodies back, all calls having returned. One that may still be read
// is left to the garbage collector: net/http may be sending a call that was cut short.
func (b *bodies) free() {
	for _, e := range b.encoded {
		if e.readers.Load() == 0 {
			b.buffers.put(e.text)
		}
	}
}

// maxBuffer is the largest buffer that is kept, in bytes.
const maxBuffer = 4 << 20

// buffers are memory that nothing reads any more.
type buffers struct{ free sync.Pool }

// get returns an empty buffer with room for size bytes.
func (b *buffers) get(size int) []byte {
	if kept, _ := b.free.Get().(*[]byte); kept != nil && cap(*kept) >= size {
		return (*kept)[:0]
	}
	const spare = 16 // a sixteenth more, so that the next body fits although it is a little longer
	return make([]byte, 0, size+size/spare)
}

func (b *buffers) put(text []byte) {
	if cap(text) <= maxBuffer {
		b.free.Put(&text)
	}
}
