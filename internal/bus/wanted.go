package bus

import (
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// jobsConfig returns the work queue. It has no limits, so "discard old" cannot discard; the
// server refuses message schedules together with "discard new" (stream.go, checkStreamCfg).
func (s *Setup) jobsConfig() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:              s.streams.Stream,
		Description:       "Rollcall: accepted jobs until they are settled",
		Subjects:          jobSubjects(s.streams.Subjects),
		Retention:         jetstream.WorkQueuePolicy,
		Storage:           jetstream.FileStorage,
		Discard:           jetstream.DiscardOld,
		Replicas:          s.streams.Replicas,
		AllowMsgSchedules: true,
	}
}

// jobSubjects returns what the job stream must hold so that the pool gets its subjects. Pools
// below jobs.> share one stream; it holds the delayed jobs too.
func jobSubjects(filters []string) []string {
	var subjects []string
	shared := false
	for _, filter := range filters {
		if strings.HasPrefix(filter, "jobs.") {
			shared = true
			continue
		}
		subjects = append(subjects, filter)
	}
	if shared {
		subjects = append(subjects, "jobs.>", subjectsLater)
	}
	return subjects
}

// doneConfig returns the stream of events and ledger pages. One message per subject: a page
// replaces itself. Republished is only what is committed (stream.go, setupStore and
// processJetStreamMsgWithBatch), so listeners never see a batch that was refused.
func (s *Setup) doneConfig() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:               StreamDone,
		Description:        "Rollcall: completion events and the ledger",
		Subjects:           []string{subjectsDone},
		Retention:          jetstream.LimitsPolicy,
		Storage:            jetstream.FileStorage,
		MaxMsgsPerSubject:  1,
		MaxAge:             doneMaxAge,
		Replicas:           s.streams.Replicas,
		AllowDirect:        true,
		AllowMsgTTL:        true,
		AllowAtomicPublish: true,
		RePublish:          &jetstream.RePublish{Source: republishFrom, Destination: republishTo},
	}
}

func (s *Setup) deadConfig() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        StreamDead,
		Description: "Rollcall: copies of jobs that ended badly",
		Subjects:    []string{subjectsDead},
		Retention:   jetstream.LimitsPolicy,
		Storage:     jetstream.FileStorage,
		MaxAge:      deadMaxAge,
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
