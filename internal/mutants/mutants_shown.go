package main

// shown are planted bugs of what people see, and of the port that shows it.
var shown = []mutant{
	{
		"replicas that disagree keep quiet", "replicas that disagree about services say so",
		"internal/app/peers.go", `if digest != "" && digest != p.digest {`, `if digest == "never" {`, []string{"./internal/app", "-run", "TestAMix"},
	},
	{
		"the consumer is called well without its broker", "what is not known is not shown as well",
		"internal/app/health.go", "if broker != nil && !report.Checks[1].OK {", "if false {", []string{"./internal/app", "-run", "TestStatusLists"},
	},
	{
		"connections to our own port have no bound", "memory is bounded",
		"internal/web/connections.go", "if len(c.open) <= c.max {", "if true {", []string{"./internal/web", "-run", "Connections"},
	},
	{
		"a foreign text becomes markup", "a text is never markup",
		"internal/web/dashboard.go", `"html/template"`, `"text/template"`, []string{"./internal/web", "-run", "Markup"},
	},
	{
		"a letter of a job that succeeded elsewhere is replayed", "a service that succeeded for a job is not called again for it",
		"internal/operate/letters.go", "case evenIfElsewhere || l.Elsewhere == \"\":", "case true:", asked,
	},
	{
		"the ledger is not asked about dead letters", "a service that succeeded for a job is not called again for it",
		"internal/operate/verify.go", "case record.Final:", "case record.Final && false:", asked,
	},
	{
		"an erased message is only removed", "what was erased stands on no disk",
		"internal/operate/erase.go", "stream.SecureDeleteMsg(ctx, seq)", "stream.DeleteMsg(ctx, seq)", []string{"./cmd/worker", "-run", "TestErased"},
	},
	{
		"a denial ends no wait", "a missing right is named",
		"internal/bus/denials.go", "h.end(fmt.Errorf(", "_ = error(fmt.Errorf(", []string{"./cmd/worker", "-run", "EveryCommand"},
	},
	{
		"a delay counts from this machine's clock", "relative times go by the broker's clock",
		"internal/operate/posting.go", "now.Add(p.Delay).UTC()", "time.Now().Add(p.Delay).UTC()", asked,
	},
	{
		"a text of a service reaches the terminal as it is", "no text of others commands a terminal",
		"internal/table/table.go", "cells[i] = Clean(col.cell(item))", "cells[i] = col.cell(item)", printed,
	},
	{
		"lines that wait for their reader are not bounded by bytes", "memory is bounded",
		"internal/telemetry/logwriter.go", "if w.queued.Add(n) > logBytes {", "if w.queued.Add(n) < 0 {", logged,
	},
}
