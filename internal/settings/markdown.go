package settings

import (
	"fmt"
	"strings"
)

// Markdown returns the table of the settings of specs for the documentation, made from the same
// tags that the settings are read by.
func Markdown(specs ...any) string {
	r := NewReader(nil)
	for _, spec := range specs {
		r.Fill(spec)
	}
	var b strings.Builder
	b.WriteString("| variable | default | |\n|---|---|---|\n")
	for _, s := range r.settings {
		byDefault, desc := "", escape(s.Description)
		if s.Default != "" {
			byDefault = "`" + s.Default + "`"
		}
		if s.Secret {
			desc += "; secret, also as `" + s.Name + fileSuffix + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", s.Name, byDefault, desc)
	}
	return b.String()
}

// escape keeps text from ending a cell or beginning a tag.
func escape(text string) string {
	return strings.NewReplacer("|", `\|`, "<", "&lt;", ">", "&gt;").Replace(text)
}
