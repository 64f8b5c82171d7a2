package table_test

import (
	"os"

	"rollcall/internal/table"
)

func Example() {
	type letter struct{ Subject, Reason string }
	p := table.Printer{Out: os.Stdout, Format: table.Table}
	_ = table.All(p, []letter{{"jobs.mail", "\x1b[31mdeclined"}, {"jobs.invoice", "no such customer"}},
		table.Col("subject", func(l letter) string { return l.Subject }),
		table.Col("reason", func(l letter) string { return l.Reason }))
	// Output:
	// SUBJECT       REASON
	// jobs.mail      [31mdeclined
	// jobs.invoice  no such customer
}
