package pool

import (
	"slices"
	"sync"

	"rollcall/internal/jobs"
)

// memory is what batches are made of and that is used again: jobs, and the sheets that they are
// settled on. Most of what this package would leave to the garbage collector is that.
type memory struct {
	// spent are the jobs of batches, empty.
	spent, sheets sync.Pool
	// stock are empty jobs that only the intake touches.
	stock []*jobs.Job
}

// slab is how many jobs are made at once.
const slab = 16

// sheet is the memory of a settlement.
type sheet struct {
	rulings []jobs.Ruling
	replies []jobs.Replies
	cells   jobs.Replies
}

// job returns an empty job.
func (m *memory) job() *jobs.Job {
	if len(m.stock) == 0 {
		if kept, _ := m.spent.Get().(*[]*jobs.Job); kept != nil && len(*kept) > 0 {
			m.stock = *kept
		} else {
			made := make([]jobs.Job, slab)
			for i := range made {
				m.stock = append(m.stock, &made[i])
			}
		}
	}
	last := len(m.stock) - 1
	j := m.stock[last]
	m.stock = m.stock[:last]
	return j
}

// sheet returns an empty sheet for so many jobs and services.
func (m *memory) sheet(members, services int) *sheet {
	s, _ := m.sheets.Get().(*sheet)
	if s == nil {
		s = new(sheet)
	}
	s.rulings = slices.Grow(s.rulings, members)[:members]
	s.replies = slices.Grow(s.replies, members)[:members]
	s.cells = slices.Grow(s.cells, members*services)[:members*services]
	for i := range s.replies {
		s.replies[i] = s.cells[i*services : (i+1)*services : (i+1)*services]
	}
	return s
}

// free takes back the jobs of a batch that is committed and whose acks and naks are sent, and the
// sheet that it was settled on. Whatever else becomes of a batch, somebody may still read them:
// a commit that was given up waits in the ledger.
func (m *memory) free(spent []*jobs.Job, s *sheet) {
	for _, j := range spent {
		*j = jobs.Job{}
	}
	m.spent.Put(&spent)
	clear(s.rulings)
	clear(s.cells)
	s.rulings, s.replies, s.cells = s.rulings[:0], s.replies[:0], s.cells[:0]
	m.sheets.Put(s)
}
