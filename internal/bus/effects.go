package bus

import (
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/jobs"
)

// everyStream is what fields mean in any of our streams unless said otherwise.
func everyStream(have, want *jetstream.StreamConfig) map[string]effect {
	return map[string]effect{
		"name": {}, "description": {}, "metadata": {}, "template_owner": {},
		"subjects":        subjectsEffect(have, want),
		"num_replicas":    harmIf(have.Replicas < want.Replicas, "fewer lost servers are survived than ROLLCALL_REPLICAS asks for", "more than asked for"),
		"placement":       harmless("where the stream lies is up to you"),
		"compression":     harmless("costs some CPU of the server"),
		"first_seq":       harmless("only where the numbers begin"),
		"max_consumers":   harmless("as long as there is room for the pools' own"),
		"consumer_limits": harmless("only the consumer's own settings count"),
		"allow_direct":    harmless("only how messages may be read"), "mirror_direct": harmless("only how messages may be read"),
		"allow_batched": harmless("only how messages may be published"), "allow_atomic": harmless("only how messages may be published"),
		"republish": harmless("copies go elsewhere too"), "duplicate_window": {},
		"storage":                   harm("what it holds is lost when the server restarts"),
		"no_ack":                    ruin("nothing that is stored is confirmed"),
		"sealed":                    ruin("nothing can be stored or removed"),
		"mirror":                    ruin("nothing can be published to it"),
		"sources":                   harm("messages of other streams come in"),
		"persist_mode":              harm("writes are confirmed before they are on disk"),
		"deny_delete":               harm("single messages cannot be removed: no cancel, no replay or discard of dead letters"),
		"deny_purge":                harm("what is settled or old cannot be removed in bulk"),
		"allow_msg_counter":         ruin("ordinary messages are refused"),
		"subject_transform":         ruin("messages are stored under other subjects"),
		"allow_rollup_hdrs":         harm("one message with the header Nats-Rollup deletes the others"),
		"allow_msg_schedules":       harm("a message may make the server publish others, and delete what is there by the header Nats-Rollup"),
		"allow_msg_ttl":             harm("a message with the header Nats-TTL deletes itself, done or not"),
		"subject_delete_marker_ttl": harm("the server leaves markers where messages were, which are none of ours"),
	}
}

// subjectsEffect says whether the stream takes all that is wanted.
func subjectsEffect(have, want *jetstream.StreamConfig) effect {
	for _, subject := range want.Subjects {
		if !slices.ContainsFunc(have.Subjects, func(pattern string) bool { return jobs.SubjectCovers(pattern, subject) }) {
			return ruin("messages published to " + subject + " are not stored: add it to the stream, or set ROLLCALL_STREAM to another")
		}
	}
	return harmless("it takes more than is needed")
}

// limited names the limits of a stream that could delete messages, besides max bytes.
func limited(cfg *jetstream.StreamConfig) bool {
	return cfg.MaxMsgs > 0 || cfg.MaxBytes > 0 || cfg.MaxMsgsPerSubject > 0
}

// jobsEffects are those of a job stream of our own.
func jobsEffects(have, want *jetstream.StreamConfig) map[string]effect {
	e := everyStream(have, want)
	old := have.Discard == jetstream.DiscardOld
	deletes := ruinIf(old, "accepted jobs are deleted unprocessed when the stream is full", harmless("beyond it the broker refuses jobs with an error that says so"))
	e["max_bytes"], e["max_msgs"], e["max_msgs_per_subject"] = deletes, deletes, deletes
	e["discard"] = ruinIf(limited(have), "accepted jobs are deleted unprocessed when the stream is full", harmless("without limits nothing is discarded"))
	e["discard_new_per_subject"] = harmless("the broker refuses jobs of a full subject with an error that says so")
	e["max_msg_size"] = harmless("producers are told when a job is too large")
	e["max_age"] = ruin("accepted jobs are deleted unprocessed when they are that old")
	e["retention"] = harm("settled jobs are not removed from the stream")
	e["no_ack"] = harm("producers get no confirmation that a job is stored")
	e["duplicate_window"] = harmIf(have.Duplicates < want.Duplicates, "a job that is sent twice is done twice", "message ids are remembered for longer")
	e["sources"] = harmIf(takesDelayed(want) && !takesDelayed(have), "delayed jobs are never handed out", "jobs of other streams come in too")
	e["subject_transform"] = harm("jobs are stored under other subjects than they were published to")
	return e
}

func laterEffects(have, want *jetstream.StreamConfig) map[string]effect {
	e := everyStream(have, want)
	full := harm("the oldest delayed jobs are deleted when the stream is full")
	e["max_bytes"], e["max_msgs"], e["max_msgs_per_subject"] = full, full, full
	e["allow_msg_schedules"] = harm("delayed jobs are refused")
	e["allow_rollup_hdrs"] = harm("delayed jobs are refused")
	e["allow_msg_ttl"] = harmless("delayed jobs with a TTL of their own are refused")
	e["retention"] = harm("delayed jobs are removed before they are due")
	e["max_age"] = harm("delayed jobs are deleted when they are that old")
	e["max_msg_size"] = harmless("producers are told when a job is too large")
	e["discard"] = harm("the server refuses this beside schedules")
	e["no_ack"] = harm("producers get no confirmation that a delayed job is stored")
	return e
}

// doneEffects are those of the stream of events and ledger. maxPayload is the server's, ttl the
// life of a ledger page.
func doneEffects(have, want *jetstream.StreamConfig, maxPayload int64, ttl time.Duration) map[string]effect {
	e := everyStream(have, want)
	for _, field := range []string{"allow_atomic", "allow_msg_ttl"} {
		e[field] = ruin("no batch can be committed")
	}
	old := have.Discard == jetstream.DiscardOld
	deletes := ruinIf(old, "ledger pages are deleted when the stream is full, so finished jobs are done again", harm("beyond it commits wait"))
	e["max_msgs"], e["max_bytes"] = deletes, ruinIf(old, deletes.text, harmless("beyond it commits wait"))
	e["discard"] = ruinIf(have.MaxMsgs > 0 || have.MaxBytes > 0, deletes.text, harmless("without limits nothing is discarded"))
	e["discard_new_per_subject"] = ruin("no ledger page can be written again")
	e["max_msgs_per_subject"] = harm("the ledger keeps every version of every page")
	e["max_age"] = ruinIf(have.MaxAge < ttl, "the ledger forgets jobs that are open or just done, so they are done again", harm("the ledger forgets jobs that are open for so long"))
	e["max_msg_size"] = ruinIf(int64(have.MaxMsgSize) < maxPayload, "larger completion events are refused, and their batches never end", harmless("as large as the server takes"))
	e["allow_direct"] = ruin("the ledger cannot be read")
	e["retention"] = ruin("events and ledger are removed once read")
	e["storage"] = harm("events and ledger are lost when the server restarts")
	e["republish"] = harm("nobody hears of events on batches.>")
	e["subject_delete_marker_ttl"] = ruin("markers stand where pages were, and commits there are refused")
	return e
}

func deadEffects(have, want *jetstream.StreamConfig, maxPayload int64) map[string]effect {
	e := everyStream(have, want)
	limit := harmless("beyond it the oldest dead letters are deleted")
	if have.Discard == jetstream.DiscardNew {
		limit = harm("beyond it jobs that fail wait, instead of ending with a dead letter")
	}
	e["max_bytes"], e["max_msgs"] = limit, limit
	e["max_msgs_per_subject"] = harm("of many dead letters of one subject only the last are kept")
	e["discard"] = harm("when the stream is full, jobs that fail wait instead of ending with a dead letter")
	e["discard_new_per_subject"] = harm("when a subject is full, its jobs that fail wait")
	e["max_age"] = harmIf(have.MaxAge > 0 && (want.MaxAge == 0 || have.MaxAge < want.MaxAge), "dead letters are deleted sooner than ROLLCALL_DEAD_AGE says", "dead letters are kept longer")
	e["max_msg_size"] = ruinIf(int64(have.MaxMsgSize) < maxPayload, "larger dead letters are refused, and their jobs never end", harmless("as large as the server takes"))
	e["retention"] = harm("dead letters are removed once read, or never stored")
	e["storage"] = harm("dead letters are lost when the server restarts")
	return e
}

// consumerEffects are those of the pool's consumer.
func consumerEffects(have, want *jetstream.ConsumerConfig, maxPayload int64) map[string]effect {
	fewer := have.MaxAckPending > 0 && have.MaxAckPending < want.MaxAckPending
	return map[string]effect{
		"name": {}, "durable_name": {}, "description": {}, "metadata": {}, "pause_until": {},
		"num_replicas":    harmless("as the stream has, or as you say"),
		"filter_subjects": ruin("the pool gets other jobs than ROLLCALL_SUBJECTS says"),
		"deliver_subject": ruin("a push consumer cannot be pulled from"), "deliver_group": ruin("a push consumer cannot be pulled from"),
		"flow_control": ruin("a push consumer cannot be pulled from"), "idle_heartbeat": ruin("a push consumer cannot be pulled from"),
		"headers_only":       ruin("jobs are handed out without their bodies, and count as done"),
		"ack_policy":         ruin("jobs are removed before they are done, or never"),
		"max_deliver":        ruin("a job delivered that often stays in the stream for ever, unseen"),
		"deliver_policy":     harmless("it says where the consumer began, and matters no more"),
		"opt_start_seq":      harmless("it says where the consumer began, and matters no more"),
		"opt_start_time":     harmless("it says where the consumer began, and matters no more"),
		"ack_wait":           harm("leases are renewed by the server's value; jobs of a lost replica come back at another time than ROLLCALL_ACK_WAIT says"),
		"backoff":            harm("leases end at other times than ROLLCALL_ACK_WAIT says"),
		"max_ack_pending":    harmIf(fewer, "jobs that wait out a back-off stall all others sooner", "more than enough"),
		"max_waiting":        harmIf(have.MaxWaiting < want.MaxWaiting, "many replicas may find no room for their pulls", "more than enough"),
		"max_batch":          harm("pulls are smaller, so jobs come slower"),
		"max_expires":        harm("pulls end sooner, so the server has more of them"),
		"max_bytes":          ruinIf(int64(have.MaxRequestMaxBytes) < maxPayload, "jobs that are larger are never delivered", harm("pulls are smaller, so jobs come slower")),
		"inactive_threshold": ruin("the server deletes the consumer, and with it what is known of deliveries, when no replica runs for so long"),
		"mem_storage":        harm("what is known of deliveries is lost when the server restarts"),
		"rate_limit_bps":     harm("the server holds jobs back"),
		"replay_policy":      harm("jobs come at the speed they were published with"),
		"sample_freq":        harmless("the server publishes an advisory for some acks"),
		"priority_policy":    harm("neighbouring jobs are dealt out to all replicas in turn, which then refuse each other's commits: slow with several replicas"),
		"priority_groups":    priorityEffect(have), "priority_timeout": harmless("only of use with pinned clients"),
	}
}

// priorityEffect is what another group means: pulls name ours.
func priorityEffect(have *jetstream.ConsumerConfig) effect {
	return ruinIf(len(have.PriorityGroups) > 0, "pulls for the group "+priorityGroup+" are refused, so no job is delivered: the group is "+strings.Join(have.PriorityGroups, ","), effect{})
}
