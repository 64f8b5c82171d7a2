package service

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"rollcall/internal/jobs"
)

// extraHeader is an entry of _HEADERS.
type extraHeader struct {
	name  string
	value template
}

// size is what it takes of a message where it has no holes, in bytes.
func (h *extraHeader) size() int {
	n := len(h.name) + len(": \r\n")
	for i := range h.value {
		n += len(h.value[i].text)
	}
	return n
}

// newExtra reads _HEADERS, and reads them again when their file changes.
func newExtra(name string, cfg *Config, deps Deps) (*watched[[]extraHeader], error) {
	return newWatched(Variable(name, "HEADERS"), cfg.Headers, deps.Log, func(list jobs.Secret) ([]extraHeader, error) { return cfg.extra(name, list) })
}

// extra reads the further headers of a service, and refuses what does not fit its other settings.
func (c *Config) extra(name string, list jobs.Secret) ([]extraHeader, error) {
	all, err := parseHeaders(list)
	faults := []error{err}
	for i := range all {
		if h := &all[i]; c.Format == FormatBatch && h.value.holes() {
			faults = append(faults, fmt.Errorf("%s has a hole; one request for many jobs cannot fill it (see %s)", h.name, Variable(name, "FORMAT")))
		}
		if all[i].name == headerAuthorization && (!c.Token.IsZero() || c.OAuthURL != "") {
			faults = append(faults, fmt.Errorf("%s is also set by %s or _OAUTH_URL: keep one", headerAuthorization, Variable(name, "TOKEN")))
		}
	}
	return all, errors.Join(faults...)
}

// reservedHeaders are set by Rollcall or by the protocol itself.
var reservedHeaders = [...]string{
	"Host", "Content-Length", "Transfer-Encoding", "Connection", "Keep-Alive", "Te", "Trailer", "Upgrade", "Expect", "Accept-Encoding",
	headerIdempotencyKey, headerTraceparent, headerTracestate, headerWebhookID, headerWebhookTime, headerWebhookSign,
}

// parseHeaders reads "Name:value,Name:value". A comma in a value is written \, there.
func parseHeaders(list jobs.Secret) ([]extraHeader, error) {
	var all []extraHeader
	var faults []error
	seen := map[string]bool{}
	for n, entry := range splitEscaped(list.Reveal()) {
		name, value, found := strings.Cut(entry, ":")
		name = http.CanonicalHeaderKey(strings.TrimSpace(name))
		fault := func(format string, args ...any) {
			faults = append(faults, fmt.Errorf("entry %d: "+format, append([]any{n + 1}, args...)...))
		}
		text, err := parseTemplate(strings.TrimSpace(value))
		switch {
		case !found || !jobs.IsHeaderName(name):
			fault("want Name:value; a comma inside a value is written \\,")
		case isReserved(name):
			fault("%s is set by Rollcall or by the protocol", name)
		case seen[name]:
			fault("%s stands twice", name)
		case err != nil:
			fault("%s: %w", name, err)
		case !jobs.IsHeaderValue(value):
			fault("%s: the value has control characters", name)
		default:
			seen[name] = true
			all = append(all, extraHeader{name, text})
		}
	}
	return all, errors.Join(faults...)
}

func isReserved(name string) bool {
	for _, reserved := range reservedHeaders {
		if name == reserved {
			return true
		}
	}
	return strings.HasPrefix(name, "Rollcall-") || strings.HasPrefix(name, "Ce-") || strings.HasPrefix(name, "Proxy-") || strings.HasPrefix(name, "Nats-")
}

// splitEscaped splits at commas that have no backslash before them; empty entries are none.
func splitEscaped(list string) (entries []string) {
	var entry strings.Builder
	add := func() {
		if text := strings.TrimSpace(entry.String()); text != "" {
			entries = append(entries, text)
		}
		entry.Reset()
	}
	for i := 0; i < len(list); i++ {
		switch {
		case list[i] == '\\' && i+1 < len(list) && list[i+1] == ',':
			i++
			entry.WriteByte(',')
		case list[i] == ',':
			add()
		default:
			entry.WriteByte(list[i])
		}
	}
	add()
	return entries
}

func encodeHeader(value string) (string, error) {
	if !jobs.IsHeaderValue(value) {
		return "", errors.New("has a line break or a control character, and stands in a header")
	}
	return value, nil
}

// encodeAttribute writes a CloudEvents attribute as a header's value: the HTTP binding 1.0.2,
// section 3.1.3.2, and the NATS binding, in the same words.
func encodeAttribute(value string) string {
	const hex = "0123456789ABCDEF"
	clean := true
	for i := range len(value) {
		clean = clean && value[i] > ' ' && value[i] < 0x7f && value[i] != '"' && value[i] != '%'
	}
	if clean {
		return value
	}
	value = strings.ToValidUTF8(value, "\ufffd")
	b := make([]byte, 0, len(value)+8)
	for i := range len(value) {
		c := value[i]
		if c <= ' ' || c >= 0x7f || c == '"' || c == '%' {
			b = append(b, '%', hex[c>>4], hex[c&15])
			continue
		}
		b = append(b, c)
	}
	return string(b)
}

// mediaType returns the content type of a job's body, if it can stand in a header.
func mediaType(j *jobs.Job) string {
	if j.ContentType == "" || !jobs.IsHeaderValue(j.ContentType) {
		return "application/octet-stream"
	}
	return j.ContentType
}
