package table_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"rollcall/internal/table"
)

type item struct {
	Name string `json:"name"`
	N    int    `json:"n"`
}

func columns() []table.Column[item] {
	return []table.Column[item]{
		table.Col("name", func(i item) string { return i.Name }),
		table.Col("n", func(i item) string { return strconv.Itoa(i.N) }),
	}
}

func TestRowsPrintAsTheyCome(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		format table.Format
		block  int
		items  []item
		want   string
	}{
		"table":      {table.Table, 0, []item{{"a", 1}, {"längerer", 22}, {"b", 3}}, "NAME  N\na     1\nlängerer  22\nb         3\n"},
		"held back":  {table.Table, 9, []item{{"a", 1}, {"längerer", 22}, {"b", 3}}, "NAME      N\na         1\nlängerer  22\nb         3\n"},
		"two blocks": {table.Table, 2, []item{{"a", 1}, {"längerer", 22}, {"b", 3}}, "NAME      N\na         1\nlängerer  22\nb         3\n"},
		"no table":   {table.Table, 0, nil, ""},
		"json":       {table.JSON, 9, []item{{"a", 1}, {"b", 2}}, "[\n{\"name\":\"a\",\"n\":1},\n{\"name\":\"b\",\"n\":2}\n]\n"},
		"empty json": {table.JSON, 0, nil, "[]\n"},
		"jsonl":      {table.JSONL, 9, []item{{"a", 1}, {"b", 2}}, "{\"name\":\"a\",\"n\":1}\n{\"name\":\"b\",\"n\":2}\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			r := table.NewRows(table.Printer{Out: &out, Format: c.format}, c.block, columns()...)
			for _, i := range c.items {
				if err := r.Print(i); err != nil {
					t.Fatal(err)
				}
			}
			if err := r.Close(); err != nil || out.String() != c.want {
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
	for _, f := range []table.Format{table.Table, table.JSON, table.JSONL} {
		r := table.NewRows(table.Printer{Out: full{}, Format: f}, 0, columns()...)
		if err := r.Print(item{}); !errors.Is(err, errFull) {
			t.Errorf("%s: got %v, want the error of the writer", f, err)
		}
	}
}

// hostile holds what a terminal takes for commands, and what turns the direction of text.
const hostile = "a\x1b[31mb\x07c\u009b2Jd\u202ee\r\nf\x7f"

func TestNoTextOfOthersCommandsATerminal(t *testing.T) {
	t.Parallel()
	for _, f := range []table.Format{table.Table, table.JSON, table.JSONL} {
		var out bytes.Buffer
		p := table.Printer{Out: &out, Format: f}
		if err := table.All(p, []item{{Name: hostile}}, columns()...); err != nil {
			t.Fatal(err)
		}
		if err := table.One(p, item{Name: hostile}, columns()...); err != nil {
			t.Fatal(err)
		}
		if got := out.String(); strings.ContainsAny(got, "\x1b\x07\u009b\r\x7f") || f == table.Table && strings.ContainsRune(got, '\u202e') {
			t.Errorf("%s: %q", f, got)
		}
	}
	if got := table.CleanLines("one\n\x1b[2Jtwo"); got != "one\n [2Jtwo" {
		t.Errorf("got %q", got)
	}
}

func TestJSONKeepsTextsOfOthersAsTheyAre(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := (table.Printer{Out: &out, Format: table.JSONL}).Value(item{Name: hostile}); err != nil {
		t.Fatal(err)
	}
	var got item
	if err := json.Unmarshal(out.Bytes(), &got); err != nil || got.Name != hostile {
		t.Errorf("%q became %q, %v", hostile, got.Name, err)
	}
}

func TestTimesAndNamesForPeople(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 12, 1, 5, 59, 59, 999_999_000, time.UTC)
	for got, want := range map[string]string{
		table.Moment(at): "2026-12-01T06:00:00Z", table.Moment(time.Time{}): "",
		table.Age(59 * time.Second): "59s", table.Age(-time.Second): "0s", table.Age(61 * time.Second): "1m1s",
		table.Age(25 * time.Hour): "25h0m", table.Age(49 * time.Hour): "2d1h",
		table.Positive(0): "", table.Positive(7): "7",
		table.Name("nats-1"): "nats-1", table.Name("NDQZ5OIB2JLKSSHGIXM4LWSWHBVGGHK6ZSHNPQGYMZJNJ3DRNBHPZWEX"): "NDQZ5OIB2JLKSSHGIXM…",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
