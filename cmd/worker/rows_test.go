package main

import (
	"bytes"
	"errors"
	"strconv"
	"testing"
)

func TestRowsPrintAsTheyCome(t *testing.T) {
	t.Parallel()
	type item struct {
		Name string `json:"name"`
		N    int    `json:"n"`
	}
	columns := []column[item]{
		{"name", func(i item) string { return i.Name }},
		{"n", func(i item) string { return strconv.Itoa(i.N) }},
	}
	for name, c := range map[string]struct {
		format format
		items  []item
		want   string
	}{
		"table":      {formatTable, []item{{"a", 1}, {"längerer", 22}, {"b", 3}}, "NAME  N\na     1\nlängerer  22\nb         3\n"},
		"no table":   {formatTable, nil, ""},
		"json":       {formatJSON, []item{{"a", 1}, {"b", 2}}, "[{\"name\":\"a\",\"n\":1}\n,{\"name\":\"b\",\"n\":2}\n]\n"},
		"empty json": {formatJSON, nil, "[]\n"},
		"jsonl":      {formatJSONL, []item{{"a", 1}, {"b", 2}}, "{\"name\":\"a\",\"n\":1}\n{\"name\":\"b\",\"n\":2}\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			r := newRows(&cli{stdout: &out, output: c.format}, columns...)
			for _, i := range c.items {
				if err := r.print(i); err != nil {
					t.Fatal(err)
				}
			}
			if err := r.close(); err != nil || out.String() != c.want {
				t.Errorf("got %q, %v; want %q", out.String(), err, c.want)
			}
		})
	}
}

// full is a disk that is.
type full struct{}

var errFull = errors.New("no space left")

func (full) Write([]byte) (int, error) { return 0, errFull }

func TestRowsThatCannotBePrintedAreAnError(t *testing.T) {
	t.Parallel()
	for _, f := range []format{formatTable, formatJSON, formatJSONL} {
		r := newRows(&cli{stdout: full{}, output: f}, column[int]{"n", strconv.Itoa})
		if err := r.print(1); !errors.Is(err, errFull) {
			t.Errorf("%s: got %v, want the error of the writer", f, err)
		}
	}
}
