package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// format is how data is printed on stdout.
type format string

// The formats of --output.
const (
	formatTable format = "table"
	formatJSON  format = "json"
	formatJSONL format = "jsonl"
)

// Set implements pflag.Value.
func (f *format) Set(s string) error {
	switch v := format(s); v {
	case formatTable, formatJSON, formatJSONL:
		*f = v
		return nil
	}
	return fmt.Errorf("want table, json or jsonl")
}

// String implements pflag.Value.
func (f *format) String() string { return string(*f) }

// Type implements pflag.Value.
func (f *format) Type() string { return "format" }

// column is one column of a table.
type column[T any] struct {
	title string
	cell  func(T) string
}

// printAll prints a list: a table with the columns, a JSON array, or one JSON object a line.
func printAll[T any](c *cli, items []T, columns ...column[T]) error {
	switch c.output {
	case formatJSON:
		if items == nil {
			items = []T{}
		}
		return printJSON(c.stdout, items, "  ")
	case formatJSONL:
		for _, item := range items {
			if err := printJSON(c.stdout, item, ""); err != nil {
				return err
			}
		}
		return nil
	default:
		return printTable(c.stdout, items, columns)
	}
}

// printOne prints a single thing: two columns of names and values, or one JSON object.
func printOne[T any](c *cli, item T, columns ...column[T]) error {
	switch c.output {
	case formatJSON:
		return printJSON(c.stdout, item, "  ")
	case formatJSONL:
		return printJSON(c.stdout, item, "")
	default:
		w := newTabWriter(c.stdout)
		for _, col := range columns {
			fmt.Fprintf(w, "%s\t%s\n", col.title, col.cell(item))
		}
		return w.Flush()
	}
}

func printTable[T any](out io.Writer, items []T, columns []column[T]) error {
	w := newTabWriter(out)
	cells := make([]string, len(columns))
	for i, col := range columns {
		cells[i] = strings.ToUpper(col.title)
	}
	fmt.Fprintln(w, strings.Join(cells, "\t"))
	for _, item := range items {
		for i, col := range columns {
			cells[i] = col.cell(item)
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	return w.Flush()
}

func newTabWriter(out io.Writer) *tabwriter.Writer {
	return tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
}

func printJSON(out io.Writer, v any, indent string) error {
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("print as JSON: %w", err)
	}
	return nil
}
