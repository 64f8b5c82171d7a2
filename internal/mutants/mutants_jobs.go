package main

// ofJobs are planted bugs of the rules that need no broker.
var ofJobs = []mutant{
	{
		"a time is written with the second of the one before", "a service reads when a job was published",
		"internal/jobs/json.go", "!c.wrote || c.unix != unix", "!c.wrote", []string{"./internal/jobs", "-run", "TestTimes"},
	},
	{
		"a set ends before its last member", "a set ends after its last member",
		"internal/jobs/set.go", "return t.Size > 0 && t.Counts.Total >= t.Size", "return t.Size > 0 && t.Counts.Total > 0", ledgerPkg,
	},
	{
		"successes are not recorded", "a service that succeeded is not called again",
		"internal/jobs/record.go", "next.OK = union(next.OK, ruling.OK)", "next.OK = union(next.OK, nil)", sim,
	},
	{
		"everybody is called for every job", "a service that succeeded is not called again",
		"internal/jobs/settle.go", "return j.Verdict == nil && j.Routed(i) && !j.Record.HasOK(service)", "return j.Verdict == nil && j.Routed(i)", sim,
	},
	{
		"an extension stays behind", "a producer's CloudEvent reaches the services unchanged",
		"internal/jobs/attribute.go", "j.Attributes = append(j.Attributes, a)", "_ = a", pure,
	},
	{
		"a crash loop never ends", "a poison job ends failed",
		"internal/jobs/record.go", "func (r Record) CrashLoop() bool { return r.Lone >= maxLone }",
		"func (r Record) CrashLoop() bool { return false }", sim,
	},
	{
		"attempts are not counted", "a job does not come back for ever",
		"internal/jobs/record.go", "if ruling.Burnt {", "if false {", pure,
	},
	{
		"a breaker burns attempts", "an attempt is only counted if something was sent",
		"internal/jobs/settle.go", "return a != nil && a.Status != StatusSkipped && !a.Unsent && !a.Free",
		"return a != nil && a.Status != StatusSkipped", pure,
	},
	{
		"an optional service fails the job", "optional services never change the outcome",
		"internal/jobs/settle.go", "case !spec.Required:", "case false:", pure,
	},
	{
		"a batch of which nothing was learnt has an event", "an outage costs no storage",
		"internal/jobs/settlement.go", "return r.Outcome.Final() || r.Burnt || len(r.OK) > 0", "return true", poolPkg,
	},
	{
		"a job that waits becomes suspect", "an outage costs no attempt and no job",
		"internal/jobs/record.go", "if !r.Suspect(delivered + 1) {", "if r.Seen >= 0 {", pure,
	},
	{
		"a batch is dated by two clocks", "times in events go by the broker's clock",
		"internal/jobs/event.go", "s.SettledAt.Add(-s.Took)", "batch.SealedAt", sim,
	},
	{
		"headers take no memory", "memory is bounded",
		"internal/jobs/delivery.go", "n += len(v)", "_ = v", pure,
	},
	{
		"an event lists other jobs", "an event lists accepted jobs only",
		"internal/jobs/event.go", "b = appendField(b, \"uid\", j.UID)", "b = appendField(b, \"uid\", \"0\"+j.UID)", sim,
	},
	{
		"retrying jobs are not counted", "the counts of an event add up",
		"internal/jobs/settlement.go", "case Retrying:\n\t\t\tc.Retrying++", "case Retrying:", sim,
	},
	{
		"a call names jobs by another id", "every call for a job has the same source and id",
		"internal/jobs/cloudevent.go", `b = appendField(b, "id", j.ID)`, `b = appendField(b, "id", j.UID)`, []string{"./internal/app", "-run", "LingerLonger"},
	},
	{
		"a call names jobs by another source", "every call for a job has the same source and id",
		"internal/jobs/cloudevent.go", `b = appendField(b, "source", j.Source)`, `b = appendField(b, "source", j.Source+j.UID)`, []string{"./internal/app", "-run", "WhyItsBatch"},
	},
	{
		"a backslash is taken for a plain byte", "a job's text reaches the services byte for byte",
		"internal/jobs/plain.go", "return (w | control | quote | backslash) & high", "_ = backslash; return (w | control | quote) & high", pure,
	},
}
