package jobs

// Secret is a text that must not be seen: however it is printed, logged or encoded, it
// shows as ***. Only [Secret.Reveal] gives it away, so one search finds every use.
//
// It decodes itself as plain text, so settings can be read into it.
type Secret struct {
	text string
	// file is where the text was read; empty if it came otherwise.
	file string
}

// masked stands for every secret that is set.
const masked = "***"

// NewSecret wraps text.
func NewSecret(text string) Secret { return Secret{text: text} }

// File returns the path of the file that the secret was read from, empty if it came otherwise.
// The file may change while the process runs; see [ReadSecret].
func (s Secret) File() string { return s.file }

// Reveal returns the secret itself.
func (s Secret) Reveal() string { return s.text }

// IsZero reports whether there is no secret.
func (s Secret) IsZero() bool { return s.text == "" }

// SetFile notes where the secret was read.
func (s *Secret) SetFile(path string) { s.file = path }

// String returns *** for a secret and nothing for none.
func (s Secret) String() string {
	if s.text == "" {
		return ""
	}
	return masked
}

// GoString keeps %#v from showing the secret.
func (s Secret) GoString() string { return "jobs.Secret(" + s.String() + ")" }

// MarshalText masks the secret in JSON and every other text encoding.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText sets the secret; it never fails.
func (s *Secret) UnmarshalText(text []byte) error {
	s.text = string(text)
	return nil
}
