package bus

import (
	"strings"
)

// flags are those of `nats stream edit` and `nats consumer edit` for the fields that the server
// lets one change.
var flags = map[string]string{
	"stream description": "description", "stream subjects": "subjects", "stream max_age": "max-age", "stream max_bytes": "max-bytes",
	"stream max_msgs": "max-msgs", "stream max_msgs_per_subject": "max-msgs-per-subject", "stream max_msg_size": "max-msg-size",
	"stream discard": "discard", "stream duplicate_window": "dupe-window", "stream num_replicas": "replicas",
	"stream max_consumers": "max-consumers", "stream allow_rollup_hdrs": "allow-rollup", "stream allow_direct": "allow-direct",
	"stream allow_msg_ttl": "allow-msg-ttl", "stream allow_atomic": "allow-batch", "stream allow_msg_schedules": "allow-schedules",
	"stream subject_delete_marker_ttl": "subject-del-markers-ttl", "stream no_ack": "no-ack", "stream discard_new_per_subject": "discard-per-subject",
	"stream compression":       "compression",
	"consumer filter_subjects": "filter", "consumer headers_only": "headers-only", "consumer max_batch": "max-pull-batch",
	"consumer max_expires": "max-pull-expire", "consumer max_bytes": "max-pull-bytes", "consumer max_deliver": "max-deliver",
	"consumer ack_wait": "wait", "consumer max_ack_pending": "max-pending", "consumer sample_freq": "sample", "consumer num_replicas": "replicas",
}

// lasting are fields that an object keeps for its life.
var lasting = map[string]bool{
	"stream retention": true, "stream storage": true, "stream mirror": true, "stream sealed": true, "stream allow_msg_counter": true,
	"stream persist_mode": true, "stream first_seq": true, "stream deny_delete": true, "stream deny_purge": true,
	"consumer ack_policy": true, "consumer deliver_policy": true, "consumer deliver_subject": true, "consumer opt_start_seq": true,
	"consumer opt_start_time": true, "consumer replay_policy": true, "consumer flow_control": true, "consumer idle_heartbeat": true,
	"consumer mem_storage": true, "consumer max_waiting": true, "consumer deliver_group": true,
}

// fix returns the command that gives a field the wanted value.
func fix(object, field string, want any) string {
	kind, name, _ := strings.Cut(object, " ")
	name = strings.ReplaceAll(name, "/", " ")
	if lasting[kind+" "+field] {
		if kind == "consumer" {
			return "nats consumer rm " + name + " -f && worker setup"
		}
		return "it cannot be changed: move what the stream holds, then nats stream rm " + name + " && worker setup"
	}
	flag, ok := flags[kind+" "+field]
	if !ok {
		return "nats " + kind + " edit " + name + " --config FILE, with " + field + " " + shown(field, want)
	}
	command := "nats " + kind + " edit " + name + " --"
	switch v := want.(type) {
	case bool:
		if v {
			return command + flag
		}
		return command + "no-" + flag
	case nil:
		if field == "headers_only" || strings.HasPrefix(field, "allow_") || field == "no_ack" || field == "discard_new_per_subject" {
			return command + "no-" + flag
		}
		return command + flag + "=" + none(kind, field)
	case float64:
		if unset(v) {
			return command + flag + "=" + none(kind, field)
		}
	}
	return command + flag + "=" + shown(field, want)
}

// none is how the nats CLI writes that there is no limit.
func none(kind, field string) string {
	switch kind + " " + field {
	case "stream max_msgs", "stream max_bytes", "stream max_msg_size", "stream max_msgs_per_subject", "stream max_consumers", "consumer max_deliver":
		return "-1"
	default:
		return "0"
	}
}
