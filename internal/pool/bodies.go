package pool

import (
	"sync"

	"rollcall/internal/jobs"
)

// maxKeptBody is the largest buffer that is kept for another call, in bytes.
const maxKeptBody = 1 << 20

// bodies lends buffers for the bodies of calls. A service may not keep a body once it has
// answered, so the buffer can serve the next batch.
type bodies struct{ pool sync.Pool }

// encode returns the body of a call for part, to be given back by release.
func (p *bodies) encode(part []*jobs.Job) *[]byte {
	b, _ := p.pool.Get().(*[]byte)
	if b == nil {
		b = new([]byte)
	}
	if size := jobs.CallSize(part); cap(*b) < size {
		*b = make([]byte, 0, size)
	}
	*b = jobs.AppendCall((*b)[:0], part)
	return b
}

func (p *bodies) release(b *[]byte) {
	if cap(*b) <= maxKeptBody {
		p.pool.Put(b)
	}
}
