package bus

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	"rollcall/internal/jobs"
)

// flag is one of `nats stream edit` or `nats consumer edit` (natscli, cli/stream_command.go and
// cli/consumer_command.go).
type flag struct {
	name string
	// none is how the flag says that there is no limit; where it is empty, the flag cannot.
	none string
	// lone means that the flag has no --no-… beside it, inverted that it means the opposite of
	// the field.
	lone, inverted bool
}

// flags are those by which a field gets the value that Rollcall wants. Fields are missing here
// that the flags cannot take a limit from: those of pulls, the replicas of a consumer.
var flags = map[string]flag{
	"stream subjects": {name: "subjects"}, "stream num_replicas": {name: "replicas"}, "stream discard": {name: "discard"},
	"stream max_age": {name: "max-age", none: "0s"}, "stream duplicate_window": {name: "dupe-window", none: "0s"},
	"stream max_bytes": {name: "max-bytes", none: "-1"}, "stream max_msgs": {name: "max-msgs", none: "-1"},
	"stream max_msgs_per_subject": {name: "max-msgs-per-subject", none: "-1"}, "stream max_msg_size": {name: "max-msg-size", none: "-1"},
	"stream compression": {name: "compression", none: "none"}, "stream subject_delete_marker_ttl": {name: "subject-del-markers-ttl", none: "0s"},
	"stream allow_rollup_hdrs": {name: "allow-rollup"}, "stream allow_direct": {name: "allow-direct"}, "stream allow_atomic": {name: "allow-batch"},
	"stream allow_msg_ttl": {name: "allow-msg-ttl", lone: true}, "stream allow_msg_schedules": {name: "allow-schedules", lone: true},
	"stream no_ack": {name: "ack", inverted: true}, "stream discard_new_per_subject": {name: "discard-per-subject"},
	"consumer filter_subjects": {name: "filter"}, "consumer headers_only": {name: "headers-only"},
	"consumer max_deliver": {name: "max-deliver", none: "-1"}, "consumer ack_wait": {name: "wait"},
	"consumer max_ack_pending": {name: "max-pending"}, "consumer sample_freq": {name: "sample", none: "0"},
}

// switches are the fields that are on or off; the server leaves one out that is off.
var switches = map[string]bool{
	"allow_rollup_hdrs": true, "allow_direct": true, "allow_atomic": true, "allow_msg_ttl": true, "allow_msg_schedules": true,
	"no_ack": true, "discard_new_per_subject": true, "headers_only": true,
}

// lasting are fields that an object keeps for its life.
var lasting = map[string]bool{
	"stream retention": true, "stream storage": true, "stream mirror": true, "stream sealed": true, "stream allow_msg_counter": true,
	"stream persist_mode": true, "stream first_seq": true, "stream deny_delete": true, "stream deny_purge": true,
	"consumer ack_policy": true, "consumer deliver_policy": true, "consumer deliver_subject": true, "consumer opt_start_seq": true,
	"consumer opt_start_time": true, "consumer replay_policy": true, "consumer flow_control": true, "consumer idle_heartbeat": true,
	"consumer mem_storage": true, "consumer max_waiting": true, "consumer deliver_group": true,
}

// fix returns the command that gives a field the wanted value. A stream keeps the subjects that it has, which are those
// of other pools; a consumer has those that its pool takes, unless ROLLCALL_SUBJECTS is wrong.
func fix(object, field string, have, want any) string {
	kind, name, _ := strings.Cut(object, " ")
	name = strings.ReplaceAll(name, "/", " ")
	f, known := flags[kind+" "+field]
	// The server does not take this switch back (stream.go, configUpdateCheckLocked).
	forGood := f.lone && unset(want)
	switch {
	case kind == "consumer" && lasting[kind+" "+field]:
		return "in a work queue, nats consumer rm " + name + " -f && worker setup; in another stream that skips or repeats jobs: " +
			"nats consumer rm " + name + " -f, then nats consumer add " + name + " --deliver=SEQ, SEQ being one above the ack floor that it had"
	case lasting[kind+" "+field] || forGood:
		return "it cannot be changed: move what the stream holds, then nats stream rm " + name + " && worker setup"
	}
	before := ""
	switch kind + " " + field {
	case "stream subjects":
		want = union(have, want)
	case "consumer filter_subjects":
		before = "set ROLLCALL_SUBJECTS to " + shown(field, have) + ", or, if it is right as it is, "
	}
	if arguments, ok := f.arguments(field, want); ok && known {
		return before + "nats " + kind + " edit " + name + " " + arguments
	}
	return byFile(kind, name, field, want)
}

// union returns the subjects of both lists.
func union(have, want any) any {
	all, _ := want.([]any)
	all = slices.Clone(all)
	had, _ := have.([]any)
	for _, subject := range had {
		covers := func(other any) bool { return jobs.SubjectCovers(fmt.Sprint(other), fmt.Sprint(subject)) }
		if !slices.ContainsFunc(all, covers) { // the server refuses subjects that overlap
			all = append(all, subject)
		}
	}
	return all
}

// arguments are those that set a field; ok is false if the flag cannot say it.
func (f flag) arguments(field string, want any) (arguments string, ok bool) {
	if switches[field] {
		if on := !unset(want); on == f.inverted {
			return "--no-" + f.name, true
		}
		return "--" + f.name, true
	}
	if unset(want) {
		return "--" + f.name + "=" + f.none, f.none != ""
	}
	switch v := want.(type) {
	case []any: // of subjects
		list := make([]string, len(v))
		for i := range v {
			list[i] = "--" + f.name + "=" + quoted(fmt.Sprint(v[i]))
		}
		return strings.Join(list, " "), true
	case float64:
		if field == "max_bytes" {
			// The CLI reads a number without a unit as one of 32 bits.
			size := jobs.Size(v).String()
			return "--" + f.name + "=" + size, v <= math.MaxInt32 || strings.HasSuffix(size, "B")
		}
	}
	return "--" + f.name + "=" + quoted(shown(field, want)), true
}

// byFile changes a field that no flag changes.
func byFile(kind, name, field string, want any) string {
	change := "del(." + field + ")"
	if text, err := json.Marshal(want); err == nil && !unset(want) {
		change = "." + field + "=" + string(text)
	}
	return fmt.Sprintf("nats %s info %s --json | jq '.config | %s' > changed.json && nats %s edit %s --config=changed.json", kind, name, change, kind, name)
}

// quoted makes one word of a text for a shell, in which > and * of a subject mean something else.
func quoted(text string) string {
	if strings.ContainsAny(text, ">*$ ;|&()<") {
		return "'" + text + "'"
	}
	return text
}
