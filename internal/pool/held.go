package pool

import "rollcall/internal/jobs"

// held counts the jobs that a replica holds by the last bits of their sequence. It tells of most
// redelivered jobs that no other delivery of them is held, without a look at all that are: after an
// outage thousands come back, to a replica that holds thousands.
type held [1 << 16]uint16

func (h *held) add(j *jobs.Job) { h[j.Ref.Seq%uint64(len(h))]++ }

func (h *held) remove(members []*jobs.Job) {
	for _, j := range members {
		h[j.Ref.Seq%uint64(len(h))]--
	}
}

// none reports whether no delivery of the job is held. False says nothing: another job may have the
// same bits.
func (h *held) none(j *jobs.Job) bool { return h[j.Ref.Seq%uint64(len(h))] == 0 }
