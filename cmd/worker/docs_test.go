package main

import (
	"os"
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
