package bus

import "time"

const (
	// firstWindow and minWindow are how many bytes are asked for at first, and at least: even a
	// link of 64 kbit/s carries the least within a second.
	firstWindow = 64 << 10
	minWindow   = 8 << 10
	maxWindow   = 64 << 20
	// longQueue is how long an answer may be on its way behind jobs.
	longQueue = answerAge / 3 * 2
	// windowShare is the part of the window that must be free before more is asked for.
	windowShare = 4
	// leaseShare is the part of a lease that a pull's data may take to arrive.
	leaseShare = 12
	// weightShare is how much a message counts in the average.
	weightShare = 16
	// slack is how many times the bytes that its jobs should weigh a pull asks for. Where the
	// bytes of a pull are used up to the last one the broker does not report its end
	// (server/consumer.go, loopAndGatherMsgs), and jobs of equal size would do that often.
	slack = 2
)

// window bounds the bytes that are asked for and have not arrived: their leases begin when the
// broker sends them, and on a slow link they take long. It is asked for in jobs of average
// weight, and grows while what it holds arrives at once.
type window struct {
	// size in bytes; 0 = no bound.
	size int64
	// average weight of a message; 0 = none has come.
	average int64
}

// weigh notes a message of so many bytes.
func (w *window) weigh(size int64) {
	if w.average == 0 {
		w.average = size
		return
	}
	w.average = max(w.average+(size-w.average)/weightShare, 1)
}

// jobs is how many the window holds, and known whether that can be said.
func (w *window) jobs() (n int, known bool) {
	if w.size == 0 || w.average == 0 {
		return 0, false
	}
	return max(int(w.size/w.average), 1), true
}

// bytes returns how many to ask for with n jobs.
func (w *window) bytes(n int) int64 {
	if w.average == 0 {
		return w.size
	}
	return slack * int64(n) * w.average
}

// measure adapts the window to how long a pull took to bring so many bytes. fills is how many
// were expected if it filled the window, else 0. The broker ends a pull within its expiry; what
// comes later than that has queued on the link.
func (w *window) measure(took time.Duration, bytes, fills int64, lease time.Duration) {
	bearable := max(lease/leaseShare, pullLag)
	switch {
	case bytes <= 0 || w.size == 0:
	case took > pullExpiry+bearable:
		w.size = max(w.size/2, minWindow)
	case took <= bearable && fills > 0 && bytes >= fills/2:
		w.size = min(w.size+bytes, maxWindow)
	}
}

// queued adapts the window to how long an answer of the broker took that queued behind jobs.
func (w *window) queued(took time.Duration) {
	if took > longQueue && w.size > 0 {
		w.size = max(w.size/2, minWindow)
	}
}
