package main

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

func TestEveryVariantOfAnExperimentIsAnother(t *testing.T) {
	t.Parallel()
	for _, e := range experiments() {
		for _, w := range e.workloads {
			labels, specs := map[string]bool{}, map[string]bool{}
			for _, c := range w.cases {
				if labels[c.label] || specs[fmt.Sprintf("%+v", c.spec)] && c.who != floor {
					t.Errorf("%s, %s: %q is there twice", e.name, w.name, c.label)
				}
				labels[c.label] = true
				specs[fmt.Sprintf("%+v", c.spec)] = c.who != floor
			}
		}
	}
}

func TestTheWorkersPageSizeCanBeChanged(t *testing.T) {
	t.Parallel()
	change := pageSizeChange(64)
	change.File = filepath.Join("..", change.File)
	if _, err := change.Write(t.TempDir()); err != nil {
		t.Errorf("the experiment no longer finds the page size: %v", err)
	}
}

func TestAnUnknownExperimentIsNamed(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if code := run(t.Context(), []string{"experiment", "stamps"}, &out, &out); code != 1 || !strings.Contains(out.String(), `"stamps"`) {
		t.Errorf("exit code %d, said %q", code, out.String())
	}
}
