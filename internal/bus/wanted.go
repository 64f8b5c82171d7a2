package bus

import (
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/jobs"
)

// jobsConfig returns the work queue. Without schedules the server refuses rollups too, so no
// job can delete another; with "discard new" a full stream refuses jobs and deletes none.
func (s *Setup) jobsConfig() jetstream.StreamConfig {
	config := jetstream.StreamConfig{
		Name:        s.streams.Stream,
		Description: describedAs + "accepted jobs until they are settled",
		Subjects:    jobSubjects(s.streams.Subjects),
		Retention:   jetstream.WorkQueuePolicy,
		Storage:     jetstream.FileStorage,
		Discard:     jetstream.DiscardNew,
		MaxBytes:    maxBytes(s.streams.StreamBytes),
		Replicas:    s.streams.Replicas,
		Duplicates:  duplicateWindow, // a stream with sources has none by default
		AllowDirect: true,            // jobs are looked for by their ids, many in one request
	}
	if s.streams.Delays(s.conn) {
		config.Sources = []*jetstream.StreamSource{{
			Name:              StreamLater,
			SubjectTransforms: []jetstream.SubjectTransformConfig{{Source: SubjectsDue, Destination: subjectsJobs}},
		}}
	}
	return config
}

// maxBytes returns a limit as the server wants it.
func maxBytes(limit jobs.Size) int64 {
	if limit == 0 {
		return -1
	}
	return int64(limit)
}

// Delays reports whether the job stream can hold delayed jobs: those of jobs.> on a server
// that remembers what it has sourced. An older one looks that up in the stream itself, and a
// work queue forgets it with the jobs, so due jobs would be handed out again.
func (s *Streams) Delays(conn *Conn) bool {
	return CheckDelays(conn.nc.ConnectedServerVersion()) == nil && slices.Contains(jobSubjects(s.Subjects), subjectsJobs)
}

// laterConfig returns the stream of delayed jobs. The server refuses schedules together with
// sources and with "discard new" (stream.go, checkStreamCfg), so it is a stream of its own.
func (s *Setup) laterConfig() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:              StreamLater,
		Description:       describedAs + "delayed and repeated jobs until they are due",
		Subjects:          []string{subjectsLater, SubjectsDue},
		Retention:         jetstream.LimitsPolicy,
		Storage:           jetstream.FileStorage,
		Discard:           jetstream.DiscardOld,
		MaxBytes:          maxBytes(s.streams.LaterBytes),
		Replicas:          s.streams.Replicas,
		AllowDirect:       true,
		AllowMsgSchedules: true,
		AllowMsgTTL:       true,
		AllowRollup:       true, // the server demands it for schedules
	}
}

// jobSubjects returns what the job stream must hold so that the pool gets its subjects. Pools
// below jobs.> share one stream.
func jobSubjects(filters []string) []string {
	var subjects []string
	shared := false
	for _, filter := range filters {
		if strings.HasPrefix(filter, prefixJobs) {
			shared = true
			continue
		}
		subjects = append(subjects, filter)
	}
	if shared {
		subjects = append(subjects, subjectsJobs)
	}
	return subjects
}

// doneConfig returns the stream of events and ledger pages. One message per subject: a page
// replaces itself. There is no max age, which would cut the ledger: events carry a TTL each.
// A full stream refuses commits instead of deleting pages. Republished is only what is committed (stream.go, setupStore and
// processJetStreamMsgWithBatch), so listeners never see a batch that was refused.
func (s *Setup) doneConfig() jetstream.StreamConfig {
	config := jetstream.StreamConfig{
		Name:               s.streams.DoneStream(s.pool),
		Description:        describedAs + "completion events and the ledger",
		Subjects:           []string{subjectsDone},
		Retention:          jetstream.LimitsPolicy,
		Storage:            jetstream.FileStorage,
		MaxMsgsPerSubject:  1,
		Discard:            jetstream.DiscardNew,
		MaxBytes:           maxBytes(s.streams.DoneBytes),
		Replicas:           s.streams.Replicas,
		AllowDirect:        true,
		AllowMsgTTL:        true,
		AllowAtomicPublish: true,
		RePublish:          &jetstream.RePublish{Source: republishFrom, Destination: republishTo},
	}
	if s.streams.Done == DoneOwn {
		config.Subjects = []string{"done.*." + s.pool + ".>"}
		config.RePublish = &jetstream.RePublish{
			Source:      "done.*." + s.pool + ".*.*",
			Destination: "{{wildcard(1)}}." + s.pool + ".{{wildcard(2)}}.{{wildcard(3)}}",
		}
	}
	return config
}

func (s *Setup) deadConfig() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        StreamDead,
		Description: describedAs + "copies of jobs that ended badly",
		Subjects:    []string{subjectsDead},
		Retention:   jetstream.LimitsPolicy,
		Storage:     jetstream.FileStorage,
		Discard:     jetstream.DiscardOld,
		MaxAge:      s.streams.DeadAge,
		MaxBytes:    maxBytes(s.streams.DeadBytes),
		Replicas:    s.streams.Replicas,
		AllowDirect: true,
	}
}

// consumerConfig returns the durable consumer that all replicas of the pool share. The limit
// on attempts is Rollcall's own: a job past MaxDeliver would stay in the stream, invisible.
// Pulls have ranks, see [pulls.turn].
func (s *Setup) consumerConfig() jetstream.ConsumerConfig {
	config := jetstream.ConsumerConfig{
		Durable:        s.pool,
		Description:    "Rollcall pool " + s.pool,
		DeliverPolicy:  jetstream.DeliverAllPolicy,
		AckPolicy:      jetstream.AckExplicitPolicy,
		AckWait:        s.streams.AckWait,
		MaxDeliver:     -1,
		MaxAckPending:  maxAckPending,
		MaxWaiting:     maxWaiting,
		PriorityPolicy: jetstream.PriorityPolicyPrioritized,
		PriorityGroups: []string{priorityGroup},
	}
	if len(s.streams.Subjects) == 1 {
		config.FilterSubject = s.streams.Subjects[0]
	} else {
		config.FilterSubjects = s.streams.Subjects
	}
	return config
}
