package pool

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"rollcall/internal/jobs"
)

// MaxBatchSize leaves room in an atomic publish, which holds 1000 messages, for the event and
// for pages that hold one job of the batch each.
const MaxBatchSize = 900

// Bounds of the batches that wait for their commit, besides those in the slots. A commit takes a
// round or two of the broker's disk, and all batches that wait meanwhile share the next one: the
// slower the disk, the larger the groups. With a fast disk nothing waits.
const (
	// settleJobs and settleBytes are in proportion to what the slots hold.
	settleJobs  = 8
	settleBytes = 4
	// minSettle jobs may wait however small the batches are, as much as one commit holds of
	// batches of one; and maxSettle suffice for full batches, however many slots there are.
	minSettle = 1000
	maxSettle = 8192
)

// Jobs are asked for ahead of the slots that will be free by the time they arrive; otherwise
// each slot would stand idle for a round trip to the broker after every batch.
const (
	// lookAhead is how far ahead: about as long as a busy broker takes to answer, and so short
	// that a job hardly waits here for what another replica could have begun.
	lookAhead = 10 * time.Millisecond
	// maxAhead bounds it, in batches for each slot.
	maxAhead = 2
)

// The largest settings that make sense; beyond them sums overflow, or a job waits for ever.
const (
	maxBatchBytes = jobs.GiB
	maxLinger     = time.Hour
	maxInFlight   = 1024
	maxAttempts   = 1_000_000
	maxAge        = 10 * 365 * 24 * time.Hour
	maxRetry      = 24 * time.Hour
)

// commitMessages is how many messages one atomic publish holds.
const commitMessages = 1000

// jobAllowance is what a job may take in memory besides its body before it takes room from others,
// in bytes: its structs, and ordinary headers and subjects.
const jobAllowance = 2 << 10

// Where the data goes that services return for a job.
const (
	ResultsEvent = "event"
	ResultsNone  = "none"
)

// Config is the settings of a pool.
type Config struct {
	BatchSize       int           `envconfig:"ROLLCALL_BATCH_SIZE" default:"96" desc:"jobs in a batch, 1 to 900"`
	BatchBytes      jobs.Size     `envconfig:"ROLLCALL_BATCH_BYTES" default:"1MiB" desc:"bytes of job bodies in a batch"`
	BatchLinger     time.Duration `envconfig:"ROLLCALL_BATCH_LINGER" default:"50ms" desc:"how long a batch waits for more jobs since its first, up to 1h; 0 seals as soon as no further job is at hand"`
	BatchKey        Key           `envconfig:"ROLLCALL_BATCH_KEY" desc:"one key per batch: empty, subject, or header:<Name>"`
	BatchesInFlight int           `envconfig:"ROLLCALL_BATCHES_IN_FLIGHT" default:"8" desc:"batches a replica sends to the services at once; more may wait for their commit"`
	MaxAttempts     int           `envconfig:"ROLLCALL_MAX_ATTEMPTS" default:"20" desc:"attempts of a job before it is failed; what only waits for a service burns none"`
	JobMaxAge       time.Duration `envconfig:"ROLLCALL_JOB_MAX_AGE" default:"24h" desc:"age at which a job expires; 0 for never"`
	RetryMin        time.Duration `envconfig:"ROLLCALL_RETRY_MIN" default:"1s" desc:"back-off after the first attempt, doubled after each, with full jitter"`
	RetryMax        time.Duration `envconfig:"ROLLCALL_RETRY_MAX" default:"5m" desc:"longest back-off, and cap on what a service may ask for"`
	Results         string        `envconfig:"ROLLCALL_RESULTS" default:"event" desc:"event: the data that services return for a job stands in completion events; none: it stands nowhere"`

	// Pool and Replica name this process in batches and events.
	Pool    string `ignored:"true"`
	Replica string `ignored:"true"`
	// AtMostOnce means that a job cannot come back: instead of a retry it fails. Core mode.
	AtMostOnce bool `ignored:"true"`
}

// Validate returns every fault of the settings at once, each naming its variable.
func (c *Config) Validate() error {
	var faults []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	check(c.BatchSize >= 1 && c.BatchSize <= MaxBatchSize, "ROLLCALL_BATCH_SIZE is %d; set 1 to %d", c.BatchSize, MaxBatchSize)
	check(c.BatchBytes > 0 && c.BatchBytes <= maxBatchBytes, "ROLLCALL_BATCH_BYTES is %s; set 1 to %s", c.BatchBytes, maxBatchBytes)
	check(c.BatchLinger >= 0 && c.BatchLinger <= maxLinger, "ROLLCALL_BATCH_LINGER is %s; set 0 to %s", c.BatchLinger, maxLinger)
	check(c.BatchesInFlight >= 1 && c.BatchesInFlight <= maxInFlight, "ROLLCALL_BATCHES_IN_FLIGHT is %d; set 1 to %d", c.BatchesInFlight, maxInFlight)
	check(c.MaxAttempts >= 1 && c.MaxAttempts <= maxAttempts, "ROLLCALL_MAX_ATTEMPTS is %d; set 1 to %d", c.MaxAttempts, maxAttempts)
	check(c.JobMaxAge >= 0 && c.JobMaxAge <= maxAge, "ROLLCALL_JOB_MAX_AGE is %s; set 0 to %s", c.JobMaxAge, maxAge)
	check(c.RetryMin > 0, "ROLLCALL_RETRY_MIN is %s; set more than 0", c.RetryMin)
	check(c.RetryMax >= c.RetryMin, "ROLLCALL_RETRY_MAX is %s, below ROLLCALL_RETRY_MIN %s; set it to that or more", c.RetryMax, c.RetryMin)
	check(c.Results == "" || c.Results == ResultsEvent || c.Results == ResultsNone, "ROLLCALL_RESULTS is %q; set event or none", c.Results)
	check(c.RetryMax <= maxRetry, "ROLLCALL_RETRY_MAX is %s; set at most %s", c.RetryMax, maxRetry)
	return errors.Join(faults...)
}

// limits are when a batch is full, on a server that takes messages of maxPayload bytes.
func (c *Config) limits(maxPayload func() int) Limits {
	return Limits{
		Jobs: c.BatchSize, Bytes: int64(c.BatchBytes), Weight: func() int { return maxPayload() / 3 },
		Messages: commitMessages, Linger: c.BatchLinger,
	}
}

// intake is how much a replica takes in before it is called for: what its slots can hold.
func (c *Config) intake() jobs.Room {
	batch := int64(c.BatchBytes) + int64(c.BatchSize)*jobAllowance
	return jobs.Room{Jobs: c.BatchSize * c.BatchesInFlight, Bytes: batch * int64(c.BatchesInFlight)}
}

// ahead is how many jobs beyond that may be taken where the calls for a batch take callTime: the
// batches that the slots call for within lookAhead, to the nearest whole one, because part of a
// batch would go out as it is. Their bytes are not granted on top.
func (c *Config) ahead(callTime time.Duration) int {
	callTime = max(callTime, 1)
	batches := (time.Duration(c.BatchesInFlight)*lookAhead + callTime/2) / callTime
	return c.BatchSize * int(min(batches, time.Duration(c.BatchesInFlight)*maxAhead))
}

// settle is how much may have been called for and not be settled yet, before nothing more is
// called for. The slots may be full at that moment.
func (c *Config) settle() jobs.Room {
	in := c.intake()
	return jobs.Room{Jobs: max(min(settleJobs*in.Jobs, maxSettle), minSettle), Bytes: settleBytes * in.Bytes}
}

// Capacity is the most that a replica holds. Its bytes are exceeded only by jobs that are
// larger than a whole batch may be.
func (c *Config) Capacity() jobs.Room {
	in, settle := c.intake(), c.settle()
	return jobs.Room{Jobs: (2+maxAhead)*in.Jobs + settle.Jobs, Bytes: 3*in.Bytes + settle.Bytes}
}

// Key says what the jobs of a batch have in common.
type Key struct {
	subject bool
	header  string
}

// ErrKey is returned for a text that is not a batch key.
var ErrKey = errors.New(`want nothing, "subject", or "header:<Name>"`)

// UnmarshalText reads "", "subject" or "header:<Name>". The error wraps [ErrKey].
func (k *Key) UnmarshalText(text []byte) error {
	s := string(text)
	name, isHeader := strings.CutPrefix(s, "header:")
	switch {
	case s == "":
		*k = Key{}
	case s == "subject":
		*k = Key{subject: true}
	case isHeader && name != "" && !strings.ContainsAny(name, " \t\r\n:"):
		*k = Key{header: name}
	default:
		return fmt.Errorf("batch key %q: %w", s, ErrKey)
	}
	return nil
}

// String is the inverse of UnmarshalText.
func (k Key) String() string {
	switch {
	case k.subject:
		return "subject"
	case k.header != "":
		return "header:" + k.header
	default:
		return ""
	}
}

// Of returns the key of a job; empty where it has none. Header names are compared without
// regard to case.
func (k Key) Of(j *jobs.Job) string {
	if k.subject {
		return j.Subject
	}
	if k.header == "" {
		return ""
	}
	value, _ := j.HeaderValue(k.header)
	return value
}
