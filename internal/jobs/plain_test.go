package jobs_test

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"rollcall/internal/jobs"
)

// Strings are looked at eight bytes at a time: every byte is tried at every place of a few words.
func TestEveryByteAtEveryPlaceOfAString(t *testing.T) {
	t.Parallel()
	const length = 20
	for at := range length {
		for c := range 256 {
			text := strings.Repeat("x", at) + string([]byte{byte(c)}) + strings.Repeat("y", length-at-1)
			quoted := []byte(`"` + text + `"`)
			if got, want := jobs.ValidJSON(quoted), json.Valid(quoted) && utf8.Valid(quoted); got != want {
				t.Errorf("ValidJSON(%q) = %v, encoding/json says %v", quoted, got, want)
			}
			call := jobs.AppendCall(nil, []*jobs.Job{{Type: text}})
			var read []struct{ Type string }
			if err := json.Unmarshal(call, &read); err != nil || !utf8.Valid(call) {
				t.Fatalf("the call of a job of type %q is no JSON: %v\n%q", text, err, call)
			}
			if want := strings.ToValidUTF8(text, "\ufffd"); read[0].Type != want {
				t.Errorf("a job of type %q travels as %q", text, read[0].Type)
			}
		}
	}
}
