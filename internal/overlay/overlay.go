// Package overlay changes one piece of a source file for a single call of the go command, by
// its -overlay flag. The tree itself stays as it is, so the product carries no hook for what is
// planted: bugs that tests must find, values that an experiment compares.
package overlay

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// Change is one replacement in one file.
type Change struct {
	// File is relative to the current directory.
	File string
	// Old occurs once in the file and is replaced by New.
	Old, New string
}

// Write puts the changed file and an overlay that names it into dir, and returns the path of
// the overlay, to be handed to the go command. It fails where Old does not occur exactly once.
func (c Change) Write(dir string) (path string, err error) {
	source, err := os.ReadFile(c.File)
	if err != nil {
		return "", fmt.Errorf("read what is to be changed: %w", err)
	}
	if n := bytes.Count(source, []byte(c.Old)); n != 1 {
		return "", fmt.Errorf("%s has %d places like %q, want 1; bring the change up to date", c.File, n, c.Old)
	}
	changed := filepath.Join(dir, "changed.go")
	if err := os.WriteFile(changed, bytes.Replace(source, []byte(c.Old), []byte(c.New), 1), 0o600); err != nil {
		return "", fmt.Errorf("write the changed file: %w", err)
	}
	absolute, err := filepath.Abs(c.File)
	if err != nil {
		return "", fmt.Errorf("find %s: %w", c.File, err)
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {absolute: changed}})
	if err != nil {
		return "", fmt.Errorf("encode the overlay: %w", err)
	}
	path = filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(path, overlay, 0o600); err != nil {
		return "", fmt.Errorf("write the overlay: %w", err)
	}
	return path, nil
}
