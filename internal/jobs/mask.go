package jobs

import (
	"regexp"
	"strings"
)

var (
	// scheme begins a URL in a list.
	scheme = regexp.MustCompile(`[A-Za-z][A-Za-z0-9+.-]*://`)
	// query may hold a key.
	query = regexp.MustCompile(`\?[^\s,]+`)
)

// MaskURLs hides user:password@ and queries in one or more URLs. It hides too much rather than
// too little: passwords hold commas and slashes, and a NATS URL needs no scheme.
func MaskURLs(text string) string {
	var b strings.Builder
	begins := append(scheme.FindAllStringIndex(text, -1), []int{len(text), len(text)})
	b.WriteString(maskUser(text[:begins[0][0]]))
	for i := range begins[:len(begins)-1] {
		b.WriteString(text[begins[i][0]:begins[i][1]])
		b.WriteString(maskUser(text[begins[i][1]:begins[i+1][0]]))
	}
	return query.ReplaceAllString(b.String(), "?"+masked)
}

// maskUser hides what stands before the last @.
func maskUser(text string) string {
	if at := strings.LastIndexByte(text, '@'); at >= 0 {
		return masked + text[at:]
	}
	return text
}
