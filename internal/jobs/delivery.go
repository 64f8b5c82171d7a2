package jobs

import "time"

// Delivery is one hand-over of a job by the broker to a replica. It must be settled
// exactly once: by an ack, by a nak with a delay, or by letting its lease lapse.
type Delivery struct {
	// Subject the producer published to.
	Subject string
	// Header as received; names keep the producer's spelling. Nil when there is none.
	Header map[string][]string
	// Data is the body. It is owned by the delivery and never written to.
	Data []byte
	// Reply is the subject settlements go to (JetStream), or the one the producer waits
	// on (core mode; may be empty).
	Reply string
	// Source is the CloudEvents source of the stream's jobs, "/rollcall/<stream>/<epoch>", or
	// "/rollcall/core/<pool>" in core mode.
	Source string
	// Ref names the job for ever. It is zero in core mode, where no stream numbers the jobs.
	Ref Ref
	// UID is "core.<nuid>" in core mode; empty otherwise, where it follows from Ref.
	UID string
	// Delivered counts hand-overs of this job, 1 for the first.
	Delivered int
	// Inherited means that Delivered may be too low: the job was published
	// before this consumer existed, and one before it may have handed the job over; or before
	// a reconnect, and the server may have forgotten that it did.
	Inherited bool
	// Published is the broker's time stamp of the job; the broker's clock, not ours.
	Published time.Time
	// Received is when this replica took the delivery; its lease counts from here.
	Received time.Time
}

// Room is an amount of jobs, with their bytes in memory: what a pool holds, or can still hold.
type Room struct {
	Jobs  int
	Bytes int64
}

// Plus returns the sum of both.
func (r Room) Plus(other Room) Room { return Room{r.Jobs + other.Jobs, r.Bytes + other.Bytes} }

// Minus returns the difference.
func (r Room) Minus(other Room) Room { return Room{r.Jobs - other.Jobs, r.Bytes - other.Bytes} }

// deliveryOverhead is what a delivery and its decoded job take in memory besides texts, about, in
// bytes; headerOverhead is that of one header.
const (
	deliveryOverhead = 1 << 10
	headerOverhead   = 96
)

// Size is about how much memory the delivery takes, in bytes: its body, headers and subjects, and
// the job made of it. It does not change.
func (d *Delivery) Size() int64 {
	n := deliveryOverhead + len(d.Data) + len(d.Subject) + len(d.Reply)
	for name, values := range d.Header {
		n += headerOverhead + len(name)
		for _, v := range values {
			n += len(v)
		}
	}
	return int64(n)
}

// First reports whether nobody can have worked on the job before.
func (d *Delivery) First() bool { return d.Delivered <= 1 && !d.Inherited }
