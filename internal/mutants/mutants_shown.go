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
}
