package jobs

import (
	"strings"
	"unicode"
)

// Printable makes a text of unknown origin one line of at most n bytes of valid UTF-8 that
// commands no terminal and reads as it stands: control and format characters become blanks,
// and runs of blanks one.
func Printable(s string, n int) string {
	s = clip(s, 4*n) // what is cut off below need not be looked at
	words := strings.FieldsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || unicode.Is(unicode.C, r) })
	return Clip(strings.Join(words, " "), n)
}
