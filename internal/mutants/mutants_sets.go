package main

// ofSets are planted bugs of sets and of cancelling, one for each sentence of what is promised.
var ofSets = []mutant{
	{
		"any text names a set", "a set is named by 1 to 64 letters, digits, _ and -",
		"internal/jobs/header.go", "if !ValidSet(set) {", "if false {", pure,
	},
	{
		"a member whose size cannot be read is none", "an unreadable member counts all the same",
		"internal/jobs/header.go", "\tj.Set = set\n", "\tif n, err := strconv.ParseUint(size, 10, 31); size == \"\" || err == nil && n > 0 {\n\t\tj.Set = set\n\t}\n", pure,
	},
	{
		"the last size counts", "of different sizes the largest counts",
		"internal/jobs/set.go", "t.Size, t.Ended = max(t.Size, o.Size), false", "t.Size, t.Ended = o.Size, false", pure,
	},
	{
		"only members that succeeded count", "whatever a member's outcome, it counts",
		"internal/ledger/group.go", "if j.Set == \"\" || j.ReplayOf != \"\" || !ruling.Outcome.Final() {", "if j.Set == \"\" || j.ReplayOf != \"\" || ruling.Outcome != jobs.Succeeded {", ledgerPkg,
	},
	{
		"a replayed member counts again", "each member of a set is counted once",
		"internal/ledger/group.go", "if j.Set == \"\" || j.ReplayOf != \"\" || !ruling", "if j.Set == \"\" || !ruling", ledgerPkg,
	},
	{
		"nobody looks after a commit", "a set ends within a second of its last member",
		"internal/ledger/sets.go", "s.touched[set] = s.looked[set].Add(minLook)", "_ = minLook", ledgerPkg,
	},
	{
		"each commit looks at its set", "a set is looked at every 100 ms at most",
		"internal/ledger/sets.go", "s.touched[set] = s.looked[set].Add(minLook)", "s.touched[set] = s.looked[set]", ledgerPkg,
	},
	{
		"a late member reopens its set", "a member that ends after its set starts nothing",
		"internal/ledger/setend.go", "if !ends && !state.Ended {", "if !ends {", ledgerPkg,
	},
	{
		"an end mark is kept for ever", "the ledger does not grow with history",
		"internal/ledger/setend.go", "Write{Subject: s.cfg.set(state.Set, setEnd), TTL: s.cfg.EventTTL, Data", "Write{Subject: s.cfg.set(state.Set, setEnd), Data", ledgerPkg,
	},
	{
		"a batch may need any number of tallies", "a commit holds at most 1000 messages",
		"internal/pool/batcher.go", "if _, known := g.sets[j.Set]; j.Set == \"\" || known {", "if true {", poolPkg,
	},
	{
		"a cancelled job stays in its stream", "a cancelled job is removed",
		"internal/operate/cancel.go", "if err := c.stream.DeleteMsg(ctx, m.Sequence);", "if err := error(nil);", cancels,
	},
	{
		"replicas do not hear of a cancelled job", "no call of a cancelled job begins later",
		"internal/operate/cancel.go", "_, _ = a.conn.NATS().RequestWithContext(ctx, ReplicaSubject(a.pool, replica, endpointCancel), request)", "_, _, _ = request, ctx, replica", cancels,
	},
	{
		"delayed members of a set are not cancelled", "set cancel cancels every open member",
		"internal/operate/cancel.go", "if !a.streams.Delays(a.conn) {\n\t\t\treturn nil", "if true {\n\t\t\treturn nil", cancels,
	},
	{
		"a cancelled delayed job stays in LATER", "a delayed job is removed from LATER",
		"internal/operate/cancel.go", "if err := later.DeleteMsg(ctx, ack.Sequence);", "if err := error(nil); ack != nil &&", cancels,
	},
	{
		"the event of a cancelled job does not say who did it", "what an operator does is written down",
		"internal/operate/cancel.go", "Replica: c.who, Seal: jobs.SealCancel", "Seal: jobs.SealCancel", cancels,
	},
	{
		"tallies are read from a server that lags", "a set ends within a second of its last member",
		"internal/bus/directget.go", "case end.upTo >= least,", "case end.upTo >= least-least,", []string{"./internal/bus", "-run", "NoOlderThan"},
	},
}
