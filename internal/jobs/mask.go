package jobs

import (
	"encoding/json"
	"regexp"
	"slices"
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

// Spellings returns how secrets may stand in what somebody writes who was sent them: with the scheme of an
// Authorization and without, and as a string of JSON has them; the longest first, as one may be a part of another.
func Spellings(secrets []string) (all []string) {
	const shortest = 4 // what is shorter is no secret, and stands in every other word
	var whole []string
	for _, secret := range secrets {
		whole = append(whole, secret)
		if _, token, found := strings.Cut(secret, " "); found {
			whole = append(whole, token)
		}
	}
	for _, text := range whole {
		if len(text) < shortest {
			continue
		}
		escaped := quotedJSON(text, true)
		plain := quotedJSON(text, false)
		all = append(all, escaped, strings.ReplaceAll(escaped, "/", `\/`), plain, strings.ReplaceAll(plain, "/", `\/`), text)
	}
	slices.SortStableFunc(all, func(a, b string) int { return len(b) - len(a) })
	return all
}

// Mask replaces the spellings of secrets in a text.
func Mask(text string, spellings []string) string {
	for _, spelling := range spellings {
		text = strings.ReplaceAll(text, spelling, masked)
	}
	return text
}

// quotedJSON returns a text as a string of JSON has it between its quotes.
func quotedJSON(text string, escapeHTML bool) string {
	var b strings.Builder
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(escapeHTML)
	_ = encoder.Encode(text) // a text is always encoded
	return strings.TrimSuffix(strings.TrimPrefix(strings.TrimSuffix(b.String(), "\n"), `"`), `"`)
}
