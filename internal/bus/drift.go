package bus

import (
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/jobs"
)

// Difference is something on the server that is not as Rollcall would make it.
type Difference struct {
	// Object is "stream JOBS" or "consumer JOBS/default".
	Object string `json:"object"`
	// Missing tells that the object does not exist; the fields below are then empty.
	Missing bool   `json:"missing,omitempty"`
	Field   string `json:"field,omitempty"`
	Have    string `json:"have,omitempty"`
	Want    string `json:"want,omitempty"`
	// Harm says what goes wrong if it stays so.
	Harm string `json:"harm,omitempty"`
	// Fatal tells that a pool cannot work like this, or would lose accepted jobs.
	Fatal bool `json:"fatal,omitempty"`
}

// comparison collects differences field by field.
type comparison []Difference

// differ notes that a field differs. A harm that begins with "!" is fatal.
func (c *comparison) differ(field string, have, want any, harm string) {
	harm, fatal := strings.CutPrefix(harm, "!")
	*c = append(*c, Difference{Field: field, Have: fmt.Sprint(have), Want: fmt.Sprint(want), Harm: harm, Fatal: fatal})
}

func compare[T comparable](c *comparison, field string, have, want T, harm string) {
	if have != want {
		c.differ(field, have, want, harm)
	}
}

// covers notes subjects that the stream would not take, and what mends that.
func (c *comparison) covers(have, want []string, remedy string) {
	for _, subject := range want {
		if !slices.ContainsFunc(have, func(pattern string) bool { return jobs.SubjectCovers(pattern, subject) }) {
			c.differ("subjects", strings.Join(have, ","), subject, "!messages published to "+subject+" are not stored; "+remedy)
		}
	}
}

func (c *comparison) replicas(have, want int) {
	if have < want {
		c.differ("num_replicas", have, want, "fewer lost servers are survived than ROLLCALL_REPLICAS asks for")
	}
}

// limited reports which limits a stream has that could delete messages.
func limits(cfg *jetstream.StreamConfig) []string {
	var set []string
	for name, on := range map[string]bool{
		"max_msgs": cfg.MaxMsgs > 0, "max_bytes": cfg.MaxBytes > 0, "max_msgs_per_subject": cfg.MaxMsgsPerSubject > 0,
	} {
		if on {
			set = append(set, name)
		}
	}
	slices.Sort(set)
	return set
}

func jobsFields(have, want *jetstream.StreamConfig) []Difference {
	var c comparison
	c.covers(have.Subjects, want.Subjects, "add it to the stream, or set ROLLCALL_STREAM to another")
	compare(&c, "retention", have.Retention, want.Retention, "settled jobs are not removed from the stream")
	compare(&c, "storage", have.Storage, want.Storage, "accepted jobs are lost when the server restarts")
	compare(&c, "max_age", have.MaxAge, want.MaxAge, "!accepted jobs are deleted unprocessed when they are that old")
	if set := limits(have); len(set) > 0 && have.Discard == jetstream.DiscardOld {
		c.differ("discard", "old with "+strings.Join(set, ", "), "no limits", "!accepted jobs are deleted unprocessed when the stream is full")
	}
	if have.Duplicates < want.Duplicates {
		c.differ("duplicate_window", have.Duplicates, want.Duplicates, "a job that is sent twice is done twice")
	}
	if have.AllowRollup || have.AllowMsgSchedules {
		c.differ("allow_rollup_hdrs", true, false, "one job with the header Nats-Rollup deletes the others")
	}
	if takesDelayed(want) && !takesDelayed(have) {
		c.differ("sources", "none", StreamLater+" "+subjectsDue+" to "+subjectsJobs, "delayed jobs are never handed out")
	}
	c.replicas(have.Replicas, want.Replicas)
	return c
}

func laterFields(have, want *jetstream.StreamConfig) []Difference {
	var c comparison
	c.covers(have.Subjects, want.Subjects, "add it to the stream")
	compare(&c, "allow_msg_schedules", have.AllowMsgSchedules, want.AllowMsgSchedules, "delayed jobs are refused")
	compare(&c, "retention", have.Retention, want.Retention, "delayed jobs are removed before they are due")
	compare(&c, "storage", have.Storage, want.Storage, "delayed jobs are lost when the server restarts")
	compare(&c, "max_age", have.MaxAge, want.MaxAge, "delayed jobs are deleted when they are that old")
	c.replicas(have.Replicas, want.Replicas)
	return c
}

func doneFields(have, want *jetstream.StreamConfig) []Difference {
	var c comparison
	c.covers(have.Subjects, want.Subjects, "add it to the stream")
	compare(&c, "allow_atomic", have.AllowAtomicPublish, want.AllowAtomicPublish, "!no batch can be committed")
	compare(&c, "allow_msg_ttl", have.AllowMsgTTL, want.AllowMsgTTL, "!no batch can be committed")
	compare(&c, "allow_direct", have.AllowDirect, want.AllowDirect, "!the ledger cannot be read")
	compare(&c, "retention", have.Retention, want.Retention, "!events and ledger are removed once read")
	compare(&c, "storage", have.Storage, want.Storage, "events and ledger are lost when the server restarts")
	compare(&c, "max_msgs_per_subject", have.MaxMsgsPerSubject, want.MaxMsgsPerSubject, "the ledger keeps every version of every page")
	if have.MaxMsgs > 0 || have.MaxBytes > 0 {
		c.differ("max_msgs, max_bytes", "limited", "no limits", "pages are deleted early, so finished jobs may be done again; or commits are refused")
	}
	if have.RePublish == nil || have.RePublish.Source != want.RePublish.Source || have.RePublish.Destination != want.RePublish.Destination {
		c.differ("republish", republishText(have.RePublish), republishText(want.RePublish), "nobody hears of events on "+republishTo)
	}
	c.replicas(have.Replicas, want.Replicas)
	return c
}

func republishText(r *jetstream.RePublish) string {
	if r == nil {
		return "none"
	}
	return r.Source + " to " + r.Destination
}

func deadFields(have, want *jetstream.StreamConfig) []Difference {
	var c comparison
	c.covers(have.Subjects, want.Subjects, "add it to the stream")
	compare(&c, "retention", have.Retention, want.Retention, "dead letters are removed once read")
	compare(&c, "storage", have.Storage, want.Storage, "dead letters are lost when the server restarts")
	c.replicas(have.Replicas, want.Replicas)
	return c
}

func consumerFields(have, want *jetstream.ConsumerConfig) []Difference {
	var c comparison
	if f, w := filters(have), filters(want); !slices.Equal(f, w) {
		c.differ("filter_subjects", strings.Join(f, ","), strings.Join(w, ","), "!the pool gets other jobs than ROLLCALL_SUBJECTS says")
	}
	if have.DeliverSubject != "" {
		c.differ("deliver_subject", have.DeliverSubject, "none", "!a push consumer cannot be pulled from")
	}
	compare(&c, "ack_policy", have.AckPolicy, want.AckPolicy, "!jobs are removed before they are done, or never")
	compare(&c, "deliver_policy", have.DeliverPolicy, want.DeliverPolicy, "jobs that were accepted earlier are never delivered")
	compare(&c, "max_deliver", have.MaxDeliver, want.MaxDeliver, "!a job delivered that often stays in the stream for ever, unseen")
	compare(&c, "ack_wait", have.AckWait, want.AckWait, "leases are renewed by the server's value, lost jobs come back at another time than ROLLCALL_ACK_WAIT says")
	if have.MaxAckPending > 0 && have.MaxAckPending < want.MaxAckPending {
		c.differ("max_ack_pending", have.MaxAckPending, want.MaxAckPending, "jobs waiting out a back-off stall all others sooner")
	}
	if have.PriorityPolicy != want.PriorityPolicy || !slices.Equal(have.PriorityGroups, want.PriorityGroups) {
		c.differ("priority_policy", priorityText(have), priorityText(want), "neighbouring jobs are dealt out to all replicas in turn, which then refuse each other's commits: slow with several replicas")
	}
	if len(have.BackOff) > 0 {
		c.differ("backoff", have.BackOff, "none", "leases end at other times than ROLLCALL_ACK_WAIT")
	}
	return c
}

func priorityText(cfg *jetstream.ConsumerConfig) string {
	policy, err := cfg.PriorityPolicy.MarshalJSON()
	if err != nil {
		return err.Error()
	}
	return strings.Join(append([]string{strings.Trim(string(policy), `"`)}, cfg.PriorityGroups...), " ")
}

// filters returns the subjects of a consumer, sorted.
func filters(cfg *jetstream.ConsumerConfig) []string {
	all := slices.Clone(cfg.FilterSubjects)
	if cfg.FilterSubject != "" {
		all = append(all, cfg.FilterSubject)
	}
	slices.Sort(all)
	return all
}
