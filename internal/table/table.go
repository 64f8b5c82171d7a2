package table

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// gap separates columns.
const gap = 2

// Column is one column of a table.
type Column[T any] struct {
	title string
	cell  func(T) string
	least int
}

// Col returns a column.
func Col[T any](title string, cell func(T) string) Column[T] {
	return Column[T]{title: title, cell: cell}
}

// Wide returns the column with at least n characters, for rows that are printed before the
// widest is known.
func (c Column[T]) Wide(n int) Column[T] {
	c.least = n
	return c
}

// All prints a list: a table, a JSON array, or one JSON object a line.
func All[T any](p Printer, items []T, columns ...Column[T]) error {
	if p.Format == JSON {
		if items == nil {
			items = []T{}
		}
		return p.Value(items)
	}
	rows := NewRows(p, len(items), columns...)
	for _, item := range items {
		if err := rows.Print(item); err != nil {
			return err
		}
	}
	if p.Format == Table && len(items) == 0 {
		if err := rows.head(); err != nil {
			return err
		}
	}
	return rows.Close()
}

// One prints a single thing: lines of names and values, or one JSON object.
func One[T any](p Printer, item T, columns ...Column[T]) error {
	if p.Format != Table {
		return p.Value(item)
	}
	width := 0
	for _, col := range columns {
		width = max(width, utf8.RuneCountInString(col.title))
	}
	for _, col := range columns {
		if err := writeLine(p.Out, []string{col.title, Clean(col.cell(item))}, []int{width, 0}); err != nil {
			return err
		}
	}
	return nil
}

// Rows prints a list item by item, for lists that are long or have no end.
type Rows[T any] struct {
	p       Printer
	columns []Column[T]
	widths  []int
	// held rows wait for their columns' widths to be known, at most block of them.
	held    [][]string
	block   int
	printed int
}

// NewRows returns a list of which a table holds back up to block rows, so that their columns are
// aligned; 0 prints each row at once.
func NewRows[T any](p Printer, block int, columns ...Column[T]) *Rows[T] {
	r := &Rows[T]{p: p, columns: columns, block: block, widths: make([]int, len(columns))}
	for i, col := range columns {
		r.widths[i] = max(col.least, utf8.RuneCountInString(col.title))
	}
	return r
}

// Printed is how many items were printed or are held back.
func (r *Rows[T]) Printed() int { return r.printed }

// Print prints an item.
func (r *Rows[T]) Print(item T) error {
	r.printed++
	switch r.p.Format {
	case JSONL:
		return r.p.Value(item)
	case JSON:
		separator := ",\n"
		if r.printed == 1 {
			separator = "[\n"
		}
		if _, err := io.WriteString(r.p.Out, separator); err != nil {
			return fmt.Errorf("print as JSON: %w", err)
		}
		return r.p.json(item, "", "")
	default:
		return r.row(item)
	}
}

func (r *Rows[T]) row(item T) error {
	cells := make([]string, len(r.columns))
	for i, col := range r.columns {
		cells[i] = Clean(col.cell(item))
		r.widths[i] = max(r.widths[i], utf8.RuneCountInString(cells[i]))
	}
	if r.held = append(r.held, cells); len(r.held) < r.block {
		return nil
	}
	return r.flush()
}

// flush prints what is held back.
func (r *Rows[T]) flush() error {
	if len(r.held) > 0 && r.printed == len(r.held) {
		if err := r.head(); err != nil {
			return err
		}
	}
	for _, cells := range r.held {
		if err := writeLine(r.p.Out, cells, r.widths); err != nil {
			return err
		}
	}
	r.held = r.held[:0]
	return nil
}

func (r *Rows[T]) head() error {
	titles := make([]string, len(r.columns))
	for i, col := range r.columns {
		titles[i] = strings.ToUpper(col.title)
	}
	return writeLine(r.p.Out, titles, r.widths)
}

// Close ends the list. It must be called once, also after an error.
func (r *Rows[T]) Close() error {
	switch r.p.Format {
	case JSONL:
		return nil
	case Table:
		return r.flush()
	}
	end := "\n]\n"
	if r.printed == 0 {
		end = "[]\n"
	}
	if _, err := io.WriteString(r.p.Out, end); err != nil {
		return fmt.Errorf("print as JSON: %w", err)
	}
	return nil
}

func writeLine(out io.Writer, cells []string, widths []int) error {
	var b strings.Builder
	for i, cell := range cells {
		fmt.Fprintf(&b, "%-*s", widths[i]+gap, cell)
	}
	if _, err := fmt.Fprintln(out, strings.TrimRight(b.String(), " ")); err != nil {
		return fmt.Errorf("print the table: %w", err)
	}
	return nil
}
