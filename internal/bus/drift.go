package bus

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Difference is something on the server that is not as Rollcall would make it.
type Difference struct {
	// Object is "stream JOBS" or "consumer JOBS/default".
	Object string `json:"object"`
	// Missing means that the object does not exist; Harm then says what making it would do.
	Missing bool `json:"missing,omitempty"`
	// Field is the name in the server's JSON.
	Field string `json:"field,omitempty"`
	Have  string `json:"have,omitempty"`
	Want  string `json:"want,omitempty"`
	// Harm says what goes wrong if it stays so; for a harmless difference, why it is none.
	Harm string `json:"harm,omitempty"`
	// Harmless means that everything works all the same.
	Harmless bool `json:"harmless,omitempty"`
	// Fatal means that a pool cannot work like this, or would lose or fake jobs. A replica does
	// not start.
	Fatal bool `json:"fatal,omitempty"`
	// Fix is the command that ends the difference, or the setting that has to be another.
	Fix string `json:"fix,omitempty"`
}

// Error says it in a sentence.
func (d *Difference) Error() string {
	return fmt.Sprintf("%s: %s is %s, want %s: %s; fix it: %s", d.Object, d.Field, d.Have, d.Want, d.Harm, d.Fix)
}

// Refusal returns an error that wraps [ErrRefusedSetup] and says everything because of which a
// pool must not work on what the server has; nil if there is nothing.
func Refusal(drift []Difference) error {
	var faults []error
	for i := range drift {
		if drift[i].Fatal {
			faults = append(faults, &drift[i])
		}
	}
	if len(faults) == 0 {
		return nil
	}
	return fmt.Errorf("%w to work on what the server has: %w", ErrRefusedSetup, errors.Join(faults...))
}

// effect is what it means that a field differs.
type effect struct {
	level level
	// text says why, or what goes wrong.
	text string
}

type level int

// The levels: not worth a word, listed as harmless, reported, refused.
const (
	silent level = iota
	benign
	risky
	fatal
)

func harmless(text string) effect { return effect{benign, text} }
func harm(text string) effect     { return effect{risky, text} }
func ruin(text string) effect     { return effect{fatal, text} }

// harmIf is harm where the condition holds, else harmless.
func harmIf(condition bool, text, otherwise string) effect {
	if condition {
		return harm(text)
	}
	return harmless(otherwise)
}

// ruinIf is ruin where the condition holds, else what otherwise says.
func ruinIf(condition bool, text string, otherwise effect) effect {
	if condition {
		return ruin(text)
	}
	return otherwise
}

// unknownField is the effect of a field that nobody has thought about.
func unknownField() effect {
	return harm("not known to be harmless: Rollcall was never run like this")
}

// differences compares whole configurations, by the names and values that the server uses.
// effects says what a field means if it differs; a field that it lacks is reported.
func differences(object string, have, want any, effects map[string]effect) ([]Difference, error) {
	h, err := settingsOf(have)
	if err != nil {
		return nil, err
	}
	w, err := settingsOf(want)
	if err != nil {
		return nil, err
	}
	fields := maps.Clone(h)
	maps.Copy(fields, w)
	var found []Difference
	for _, field := range slices.Sorted(maps.Keys(fields)) {
		if unset(h[field]) && unset(w[field]) || reflect.DeepEqual(h[field], w[field]) {
			continue
		}
		e, known := effects[field]
		if !known {
			e = unknownField()
		}
		if e.level == silent {
			continue
		}
		found = append(found, Difference{
			Object: object, Field: field, Have: shown(field, h[field]), Want: shown(field, w[field]), Harm: e.text,
			Harmless: e.level == benign, Fatal: e.level == fatal, Fix: fix(object, field, h[field], w[field]),
		})
	}
	return found, nil
}

// settingsOf returns a configuration as the server writes it.
func settingsOf(config any) (map[string]any, error) {
	text, err := json.Marshal(config)
	if err != nil {
		return nil, fmt.Errorf("read a configuration: %w", err)
	}
	var settings map[string]any
	if err := json.Unmarshal(text, &settings); err != nil {
		return nil, fmt.Errorf("read a configuration: %w", err)
	}
	// A consumer has one filter in one field and several in another.
	if filter, ok := settings["filter_subject"]; ok {
		settings["filter_subjects"] = []any{filter}
		delete(settings, "filter_subject")
	}
	for _, field := range []string{"filter_subjects", "subjects"} {
		if list, ok := settings[field].([]any); ok {
			slices.SortFunc(list, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
		}
	}
	return settings, nil
}

// unset reports whether a value is one of those by which the server means "none".
func unset(value any) bool {
	switch v := value.(type) {
	case nil:
		return true
	case bool:
		return !v
	case float64:
		return v == 0 || v == -1
	case string:
		return v == "" || v == "none" || v == "0001-01-01T00:00:00Z"
	case []any:
		return len(v) == 0
	case map[string]any:
		return !slices.ContainsFunc(slices.Collect(maps.Values(v)), func(inner any) bool { return !unset(inner) })
	default:
		return false
	}
}

// durations are the fields that the server counts in nanoseconds.
var durations = [...]string{"max_age", "duplicate_window", "ack_wait", "max_expires", "idle_heartbeat", "inactive_threshold", "subject_delete_marker_ttl", "priority_timeout"}

// shown writes a value for people.
func shown(field string, value any) string {
	switch v := value.(type) {
	case string:
		if v != "" {
			return v
		}
	case bool:
		return fmt.Sprint(v)
	case float64:
		if unset(v) {
			return "none"
		}
		if slices.Contains(durations[:], field) {
			return time.Duration(v).String()
		}
		return fmt.Sprintf("%.0f", v)
	}
	if unset(value) {
		if _, isBool := value.(bool); isBool {
			return "false"
		}
		return "none"
	}
	if list, ok := value.([]any); ok && !slices.ContainsFunc(list, func(v any) bool { _, text := v.(string); return !text }) {
		texts := make([]string, len(list))
		for i, v := range list {
			texts[i] = fmt.Sprint(v)
		}
		return strings.Join(texts, ",")
	}
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Sprint(value)
	}
	return string(text)
}
