package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestTheCommandsPageIsTrue(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/commands.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	examples := regexp.MustCompile(`(?m)^(?:\w+=\S+ |source <\()*worker (.+?)(?: [<>] \S+|\))?$`).FindAllStringSubmatch(page, -1)

	shown := map[string]bool{}
	for _, example := range examples {
		_, args := pasted(t, "worker "+example[1])
		root := (&cli{}).newRoot()
		root.InitDefaultCompletionCmd(args...)
		command, rest, err := root.Find(args)
		if err != nil || command == root {
			t.Errorf("%q calls no command: %v", example[0], err)
			continue
		}
		if err := command.ParseFlags(rest); err != nil {
			t.Errorf("%q: %v", example[0], err)
		}
		for ; command.Parent() != root; command = command.Parent() {
		}
		shown[command.Name()] = true
	}
	for _, command := range (&cli{}).newRoot().Commands() {
		name := command.Name()
		if command.Hidden || name == "help" || name == "completion" {
			continue
		}
		if !strings.Contains(page, "\n### "+name+"\n") || !shown[name] {
			t.Errorf("docs/commands.md has no heading or no example for %s", name)
		}
	}
}

// TestUsersReadNoInnerWords: what the ledger is made of, and how it is worked with, is for those who
// read docs/architecture.md and docs/design.md.
func TestUsersReadNoInnerWords(t *testing.T) {
	t.Parallel()
	inner := regexp.MustCompile(`(?i)\b(ledger pages?|pages? of the ledger|epochs?|ranks?|ranked|lone (runs?|calls?))\b`)
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(pages) < 15 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	runbook, err := filepath.Glob("../../docs/runbook/*.md")
	if err != nil || len(runbook) == 0 {
		t.Fatalf("%d pages of the runbook, %v", len(runbook), err)
	}
	pages = append(append(pages, runbook...), "../../README.md", "../../SECURITY.md", "../../examples/README.md", "../../.env.example")
	for _, page := range pages {
		if name := filepath.Base(page); name == "architecture.md" || name == "design.md" {
			continue
		}
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if word := inner.FindString(line); word != "" && !strings.Contains(line, "](adr/") {
				t.Errorf("%s says %q: %s", page, word, line)
			}
		}
	}
}
