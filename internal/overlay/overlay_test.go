package overlay_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"rollcall/internal/overlay"
)

func TestTheGoCommandSeesTheChangeAndTheTreeDoesNot(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	program := filepath.Join(dir, "main.go")
	source := "package main\n\nimport \"fmt\"\n\nfunc main() { fmt.Println(\"as it is\") }\n"
	if err := os.WriteFile(program, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	path, err := overlay.Change{File: program, Old: "as it is", New: "changed"}.Write(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "go", "run", "-overlay", path, program).CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "changed" {
		t.Errorf("with the overlay the program says %q, %v; want changed", out, err)
	}
	if now, err := os.ReadFile(program); err != nil || string(now) != source {
		t.Errorf("the file itself was changed: %q, %v", now, err)
	}
}

func TestAChangeThatDoesNotFitIsRefused(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "a.go")
	if err := os.WriteFile(file, []byte("one two one"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, old := range []string{"one", "three"} {
		if _, err := (overlay.Change{File: file, Old: old}).Write(t.TempDir()); err == nil || !strings.Contains(err.Error(), "want 1") {
			t.Errorf("replacing %q: %v, want an error that counts the places", old, err)
		}
	}
	if _, err := (overlay.Change{File: file + ".gone"}).Write(t.TempDir()); err == nil {
		t.Error("a missing file is no error")
	}
}
