package main

import (
	"regexp"
	"strings"
	"testing"

	"rollcall/docs/runbook"
)

func TestRunbookPrintsThePageOfAnAlert(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"RollcallBreakerOpen", "breakeropen"} {
		wants(t, worker(t, nil, "runbook", name), codeOK, "# RollcallBreakerOpen", "## Fix")
	}
	wants(t, worker(t, nil, "runbook"), codeOK, "RollcallBreakerOpen\n", "RollcallNoWorkers\n")
	wants(t, worker(t, nil, "runbook", "nothing"), codeUsage, "worker runbook")
}

// TestRunbookCommandsAreCommands: every command on a page can be called.
func TestRunbookCommandsAreCommands(t *testing.T) {
	t.Parallel()
	for _, name := range runbook.Names() {
		page, _ := runbook.Page(name)
		for _, m := range regexp.MustCompile("(?m)(?:^|`)worker ([a-z][^#`\n]*)").FindAllStringSubmatch(page, -1) {
			_, args := pasted(t, "worker "+strings.TrimSpace(m[1]))
			root := (&cli{}).newRoot()
			command, rest, err := root.Find(args)
			if err != nil || command == root {
				t.Errorf("%s: %q calls no command: %v", name, m[0], err)
				continue
			}
			if err := command.ParseFlags(rest); err != nil {
				t.Errorf("%s: %q: %v", name, m[0], err)
			}
		}
	}
}
