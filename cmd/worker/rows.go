package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// rows prints a list item by item, for lists that are long or have no end: a table whose
// columns keep to the widest cell so far, a JSON array, or one JSON object a line.
type rows[T any] struct {
	c       *cli
	columns []column[T]
	widths  []int
	printed int
}

func newRows[T any](c *cli, columns ...column[T]) *rows[T] {
	return &rows[T]{c: c, columns: columns, widths: make([]int, len(columns))}
}

func (r *rows[T]) print(item T) error {
	r.printed++
	switch r.c.output {
	case formatJSONL:
		return printJSON(r.c.stdout, item, "")
	case formatJSON:
		separator := ","
		if r.printed == 1 {
			separator = "["
		}
		if _, err := io.WriteString(r.c.stdout, separator); err != nil {
			return fmt.Errorf("print as JSON: %w", err)
		}
		return printJSON(r.c.stdout, item, "")
	default:
		return r.printCells(item)
	}
}

func (r *rows[T]) printCells(item T) error {
	cells, titles := make([]string, len(r.columns)), make([]string, len(r.columns))
	for i, col := range r.columns {
		titles[i], cells[i] = strings.ToUpper(col.title), col.cell(item)
		r.widths[i] = max(r.widths[i], utf8.RuneCountInString(titles[i]), utf8.RuneCountInString(cells[i]))
	}
	if r.printed == 1 {
		if err := r.printLine(titles); err != nil {
			return err
		}
	}
	return r.printLine(cells)
}

func (r *rows[T]) printLine(cells []string) error {
	var b strings.Builder
	for i, cell := range cells {
		fmt.Fprintf(&b, "%-*s  ", r.widths[i], cell)
	}
	if _, err := fmt.Fprintln(r.c.stdout, strings.TrimRight(b.String(), " ")); err != nil {
		return fmt.Errorf("print the table: %w", err)
	}
	return nil
}

// close ends the list. It must be called once, also after an error.
func (r *rows[T]) close() error {
	if r.c.output != formatJSON {
		return nil
	}
	end := "]\n"
	if r.printed == 0 {
		end = "[]\n"
	}
	if _, err := io.WriteString(r.c.stdout, end); err != nil {
		return fmt.Errorf("print as JSON: %w", err)
	}
	return nil
}
