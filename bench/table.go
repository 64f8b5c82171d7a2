package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"rollcall/bench/lab"
)

// column is one column of a table of cases.
type column struct {
	title string
	cell  func(caseReport) string
}

func columns() []column {
	return []column{
		{"case", func(c caseReport) string { return c.Label }},
		{"jobs/s", func(c caseReport) string { return figure(c.Median.JobsPerSecond, "%.0f") }},
		{"ratio", func(c caseReport) string { return figure(c.Ratio, "%.2f") }},
		{"worker µs", func(c caseReport) string { return figure(c.Median.WorkerCPU, "%.1f") }},
		{"ratio", func(c caseReport) string { return figure(c.CPURatio, "%.2f") }},
		{"broker µs", func(c caseReport) string { return figure(c.Median.BrokerCPU, "%.1f") }},
		{"services µs", func(c caseReport) string { return figure(c.Median.ServicesCPU, "%.1f") }},
		{"peak MiB", func(c caseReport) string { return figure(peakMiB(c.Median), "%.0f") }},
		{"broker MiB", func(c caseReport) string { return figure(float64(c.Median.BrokerRSS)/(1<<20), "%.0f") }},
		{"batches/commit", func(c caseReport) string { return figure(c.Median.BatchesPerCommit(), "%.1f") }},
		{"p50 ms", func(c caseReport) string { return figure(c.Median.P50, "%.1f") }},
		{"p99 ms", func(c caseReport) string { return figure(c.Median.P99, "%.1f") }},
		{"idle %", func(c caseReport) string { return figure(c.Median.IdleCPU, "%.2f") }},
	}
}

// figure prints a value, or a dash for one that was not measured.
func figure(v float64, format string) string {
	if v == 0 || v != v {
		return "-"
	}
	return fmt.Sprintf(format, v)
}

func printTables(out io.Writer, reports []report) error {
	for _, r := range reports {
		if _, err := fmt.Fprintf(out, "%s  %s  (%d runs)\n", r.Name, r.Title, len(r.Cases[0].Runs)); err != nil {
			return fmt.Errorf("print the table of %s: %w", r.Name, err)
		}
		if err := printCases(out, r.Cases); err != nil {
			return fmt.Errorf("print the table of %s: %w", r.Name, err)
		}
		for _, v := range r.Bars {
			fmt.Fprintln(out, v)
		}
		fmt.Fprintln(out)
	}
	return nil
}

// printCases leaves out the columns that hold nothing.
func printCases(out io.Writer, cases []caseReport) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', tabwriter.AlignRight)
	rows := make([]strings.Builder, len(cases)+1)
	for _, col := range columns() {
		cells := make([]string, len(cases))
		empty := true
		for i, c := range cases {
			cells[i] = col.cell(c)
			empty = empty && cells[i] == "-"
		}
		if empty {
			continue
		}
		fmt.Fprintf(&rows[0], "%s\t", col.title)
		for i, cell := range cells {
			fmt.Fprintf(&rows[i+1], "%s\t", cell)
		}
	}
	for i := range rows {
		fmt.Fprintln(w, rows[i].String())
	}
	return w.Flush()
}

// String is the line of a bar.
func (v barResult) String() string {
	sign, word := "≤", "met"
	if v.AtLeast {
		sign = "≥"
	}
	if !v.Met {
		word = "MISSED"
	}
	return fmt.Sprintf("  %-6s %s: %.2f, bar %s %g", word, v.Text, v.Value, sign, v.Limit)
}

// summary is a result in one line, for the talk while measuring.
func summary(r lab.Result) string {
	var b strings.Builder
	for _, col := range columns()[1:] {
		c := caseReport{Median: r}
		if cell := col.cell(c); cell != "-" {
			fmt.Fprintf(&b, "%s %s  ", cell, col.title)
		}
	}
	return strings.TrimSpace(b.String())
}
