package bus

import (
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"rollcall/internal/jobs"
)

// Letter is a stored dead letter.
type Letter struct {
	// Seq in the DEAD stream names the letter.
	Seq uint64 `json:"seq"`
	// Stored is when the stream took it.
	Stored time.Time `json:"-"`
	// UID and Subject are those of the job.
	UID string `json:"uid"`
	// ID is what the producer called the job; empty if it has no name but its uid.
	ID      string `json:"id,omitempty"`
	Subject string `json:"subject"`
	// Set is the set that the job is a member of, if it is one.
	Set string `json:"set,omitempty"`
	// ReplayOf is the uid of the job from whose dead letter the job was made, if it was.
	ReplayOf  string    `json:"replay_of,omitempty"`
	Outcome   string    `json:"outcome"`
	Reason    string    `json:"reason"`
	Service   string    `json:"service,omitempty"`
	Attempts  int       `json:"attempts"`
	BatchID   string    `json:"batch_id"`
	FailedAt  time.Time `json:"failed_at"`
	Bytes     int       `json:"bytes"`
	Truncated bool      `json:"truncated,omitempty"`
	// Services is what each service said of the job in the batch that it ended in, as far as that
	// event is stored. Rollcall's administration adds it, and what follows.
	Services map[string]string `json:"services,omitempty"`
	// Elsewhere is how the job ended in another batch than the letter's, ElsewhereBatch: a worker
	// that had lost the job wrote the letter. "retrying" is for a job that has not ended. Empty
	// if the letter is the job's end, as far as is known.
	Elsewhere      jobs.Outcome `json:"elsewhere,omitempty"`
	ElsewhereBatch string       `json:"elsewhere_batch,omitempty"`
}

// ReadLetter reads a stored dead letter of a pool from its subject and headers.
func ReadLetter(pool, subject string, seq uint64, stored time.Time, header nats.Header) Letter {
	l := Letter{
		Seq: seq, Stored: stored, UID: header.Get(headerUID), ID: header.Get(headerID), Subject: header.Get(headerSubject), Outcome: header.Get(headerOutcome),
		Reason: header.Get(headerReason), Service: header.Get(headerService), BatchID: header.Get(headerBatch),
		Truncated: header.Get(headerTruncated) == "true", FailedAt: stored, ReplayOf: header.Get(jobs.HeaderReplayOf),
	}
	l.Attempts, _ = strconv.Atoi(header.Get(headerAttempts))
	l.Bytes, _ = strconv.Atoi(header.Get("Nats-Msg-Size"))
	job := jobs.Delivery{Header: header}
	if set, _ := job.HeaderValue(jobs.HeaderSet); jobs.ValidSet(set) {
		l.Set = set
	}
	if at, err := time.Parse(time.RFC3339Nano, header.Get(headerFailedAt)); err == nil {
		l.FailedAt = at
	}
	if l.Subject == "" {
		l.Subject = strings.TrimPrefix(subject, DeadSubject(pool, ""))
	}
	return l
}

// ReplayedJob makes the job of a letter again. The message id follows from the letter, so that a
// repetition is the same job; from its time too, so that no producer can use the id before.
func ReplayedJob(l *Letter, m *nats.Msg) *nats.Msg {
	ours := nats.Header{
		headerReason: nil, headerOutcome: nil, headerAttempts: nil, headerService: nil, headerBatch: nil,
		headerUID: nil, headerSubject: nil, headerFailedAt: nil, jobs.HeaderReplayOf: nil,
	}
	job := &nats.Msg{Subject: l.Subject, Header: KeptHeaders(m.Header, ours), Data: m.Data}
	job.Header[jobs.HeaderReplayOf] = []string{l.UID}
	job.Header[jobs.HeaderMsgID] = []string{l.UID + ".replay." + strconv.FormatUint(l.Seq, 10) + "." + strconv.FormatInt(l.Stored.UnixNano(), 36)}
	return job
}
