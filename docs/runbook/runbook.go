// Package runbook holds a page for every alert, so that the program can print them: whoever is
// woken by one may have no more than the image at hand.
package runbook

import (
	"embed"
	"io/fs"
	"strings"
)

//go:embed *.md
var pages embed.FS

// Names lists the alerts that have a page, sorted.
func Names() []string {
	files, err := fs.Glob(pages, "*.md")
	if err != nil {
		panic(err) // the pattern is a constant
	}
	for i, file := range files {
		files[i] = strings.TrimSuffix(file, ".md")
	}
	return files
}

// Page returns the page of an alert, and whether there is one. The prefix "Rollcall" may be
// left out, and upper and lower case do not matter.
func Page(alert string) (text string, found bool) {
	for _, name := range Names() {
		if strings.EqualFold(name, alert) || strings.EqualFold(name, "Rollcall"+alert) {
			page, err := pages.ReadFile(name + ".md")
			return string(page), err == nil
		}
	}
	return "", false
}
