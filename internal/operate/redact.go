package operate

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"rollcall/internal/jobs"
)

// redaction returns an event with the entries of the jobs that have these uids reduced to what may
// stay of them. The bytes of the other entries stay as they are.
type redaction func(data []byte, uids map[string]bool) ([]byte, error)

// redacted is the [redaction] of the event of a batch. Of the jobs stay uid, outcome and attempt.
// The error texts of the services that did not succeed for them go, since these may speak of them;
// so does the key of the batch once all its jobs are erased.
func redacted(data []byte, uids map[string]bool) ([]byte, error) {
	var event struct {
		Data struct {
			Truncated bool              `json:"truncated"`
			Key       json.RawMessage   `json:"key"`
			Services  []json.RawMessage `json:"services"`
			Jobs      []json.RawMessage `json:"jobs"`
		} `json:"data"`
	}
	if err := json.Unmarshal(data, &event); err != nil {
		return nil, fmt.Errorf("decode completion event: %w", err)
	}
	var erased []jobs.EventJob
	all := true
	for _, raw := range event.Data.Jobs {
		var j jobs.EventJob
		if err := json.Unmarshal(raw, &j); err != nil {
			return nil, fmt.Errorf("decode an entry of a completion event: %w", err)
		}
		if !uids[j.UID] {
			all = all && j.Erased
			continue
		}
		erased = append(erased, j)
		rest, err := json.Marshal(struct {
			UID     string       `json:"uid"`
			Outcome jobs.Outcome `json:"outcome"`
			Attempt int          `json:"attempt"`
			Erased  bool         `json:"erased"`
		}{j.UID, j.Outcome, j.Attempt, true})
		if err != nil {
			return nil, fmt.Errorf("encode an erased entry: %w", err)
		}
		data = bytes.Replace(data, raw, rest, 1)
	}
	for _, raw := range event.Data.Services {
		rest, err := withoutError(raw, erased)
		if err != nil {
			return nil, err
		}
		data = bytes.Replace(data, raw, rest, 1)
	}
	if all && len(event.Data.Key) > 0 {
		data = bytes.Replace(data, slices.Concat([]byte(`,"key":`), event.Data.Key), []byte(`,"key":""`), 1)
	}
	if !event.Data.Truncated {
		data = bytes.Replace(data, []byte(`,"counts":`), []byte(`,"truncated":true,"counts":`), 1)
	}
	return data, nil
}

// withoutError returns what an event says of a service, without its error if that may speak of one
// of the erased jobs: the service did not succeed for it, or the entry does not say so.
func withoutError(raw json.RawMessage, erased []jobs.EventJob) ([]byte, error) {
	var report struct {
		Name  string          `json:"name"`
		Error json.RawMessage `json:"error"`
	}
	if err := json.Unmarshal(raw, &report); err != nil {
		return nil, fmt.Errorf("decode a service of a completion event: %w", err)
	}
	if !slices.ContainsFunc(erased, func(j jobs.EventJob) bool { return j.Services[report.Name] != jobs.StatusOK.String() }) {
		return raw, nil
	}
	return bytes.Replace(raw, slices.Concat([]byte(`,"error":`), report.Error), []byte(`,"error":""`), 1), nil
}

// redactedSet is the [redaction] of the event of a set. Of the jobs stay uid and outcome.
func redactedSet(data []byte, uids map[string]bool) ([]byte, error) {
	var event struct {
		Data struct {
			Failed []json.RawMessage `json:"failed"`
		} `json:"data"`
	}
	if err := json.Unmarshal(data, &event); err != nil {
		return nil, fmt.Errorf("decode the event of a set: %w", err)
	}
	for _, raw := range event.Data.Failed {
		var f jobs.SetFailure
		if err := json.Unmarshal(raw, &f); err != nil {
			return nil, fmt.Errorf("decode a member in the event of a set: %w", err)
		}
		if !uids[f.UID] {
			continue
		}
		rest, err := json.Marshal(f.WithoutTexts())
		if err != nil {
			return nil, fmt.Errorf("encode an erased member: %w", err)
		}
		data = bytes.Replace(data, raw, rest, 1)
	}
	return bytes.Replace(data, []byte(`,"truncated":false`), []byte(`,"truncated":true`), 1), nil
}
