package main

// ofLedger are planted bugs of the ledger.
var ofLedger = []mutant{
	{
		"final jobs of a refused commit are committed again", "each job final in exactly one event",
		"internal/ledger/group.go", "if !pages[c.pages[at.page]].value.Record(at.offset).Final {",
		"if pages[c.pages[at.page]].value.Record(at.offset).Final || true {", sim,
	},
	{
		"two batches of a group finish the same job", "each job final in exactly one event",
		"internal/ledger/group.go", "if page.next.Record(job.offset).Final {", "if false {", ledgerPkg,
	},
	{
		"a lost answer is taken for a lost race", "one event per batch",
		"internal/ledger/group.go", "if found.events[c.event.Subject] {", "if false {", ledgerPkg,
	},
	{
		"a member that is retried counts", "each member of a set is counted once",
		"internal/ledger/group.go", "if j.Set == \"\" || j.ReplayOf != \"\" || !ruling.Outcome.Final() {", "if j.Set == \"\" || j.ReplayOf != \"\" {", ledgerPkg,
	},
	{
		"tallies are not fenced", "each member of a set is counted once",
		"internal/ledger/group.go", "Write{Subject: p.names.set(tally.key, p.lane), Expect: tally.base.seq",
		"Write{Subject: p.names.set(tally.key, p.lane) + tally.key[:1], Expect: 0", ledgerPkg,
	},
	{
		"members are not counted", "a set ends after its last member",
		"internal/ledger/ledger.go", "c.count(j, &s.Rulings[i])", "", ledgerPkg,
	},
	{
		"the end mark is another's", "a set ends in exactly one event",
		"internal/ledger/setend.go", "Write{Subject: s.cfg.set(state.Set, setEnd), TTL", "Write{Subject: s.cfg.set(state.Set, setEnd) + state.Set[:1], TTL", ledgerPkg,
	},
	{
		"a set never grows old", "a set that is not complete is abandoned",
		"internal/ledger/opensets.go", "if old || size > 0 && total >= size {", "if size > 0 && total >= size {", ledgerPkg,
	},
	{
		"a set is dated by the clock of the machine", "times in events go by the broker's clock",
		"internal/ledger/sets.go", "func NewSets(store Upkeep, cfg SetsConfig, log zerolog.Logger) *Sets {\n", "func NewSets(store Upkeep, cfg SetsConfig, log zerolog.Logger) *Sets {\n\tcfg.Now = time.Now\n", sim,
	},
	{
		"pages in the cache have no weight", "memory is bounded",
		"internal/ledger/cache.go", "	c.bytes += size", "	c.bytes++", []string{"./internal/ledger", "-run", "PageCache"},
	},
	{
		"nobody sweeps the sets", "what a crash leaves open is ended",
		"internal/ledger/opensets.go", "s.lookAt(ctx, s.open.due(now.Add(-s.cfg.MaxAge)))", "s.lookAt(ctx, s.open.due(now)[:0])", ledgerPkg,
	},
	{
		"a lane that moves while its set is read counts twice", "each member of a set is counted once",
		"internal/ledger/tally.go", "return l.subject == e.Subject", "return false", ledgerPkg,
	},
	{
		"events live for ever", "a bounded number of events is kept",
		"internal/ledger/ledger.go", "TTL: l.cfg.EventTTL, ", "", busPkg,
	},
	{
		"the stream epoch is left out", "a recreated stream's jobs are new work",
		"internal/ledger/subjects.go", "b = append(b, epoch...)", "b = append(b, 'e')", busPkg,
	},
	{
		"the sweep ignores the horizon", "a stalled worker is still told from new work",
		"internal/ledger/sweeper.go", ".Add(-longest.Horizon)", ".Add(longest.Horizon)", ledgerPkg,
	},
	{
		"the sweep ignores the ack floor", "a stalled worker is still told from new work",
		"internal/ledger/sweeper.go", "if !ok || judged[b] || !floor.passed(b) {", "if !ok || judged[b] {", busPkg,
	},
	{
		"the shortest horizon rules", "a stalled worker is still told from new work",
		"internal/ledger/retention.go", "longest.Horizon, longest.TTL = max(longest.Horizon, other.Horizon), max(longest.TTL, other.TTL)", "_ = other", ledgerPkg,
	},
	{
		"the sweep goes on although the horizons cannot be read", "a stalled worker is still told from new work",
		"internal/ledger/retention.go", "return Retention{}, fmt.Errorf(\"read how long the ledger is needed: %w\", err)", "return longest, nil", ledgerPkg,
	},
	{
		"the sweep forgets another stream's ledger", "a service that succeeded is not called again",
		"internal/ledger/sweeper.go", "Sweeper{store: store, names: names,", "Sweeper{store: store, names: Names{Pool: names.Pool, Stream: \"*\"},", ledgerPkg,
	},
	{
		"a ledger that was taken over stays open to its old pool", "each job final in exactly one event",
		"internal/ledger/takeover.go", "writes = append(writes, w, t.closed(e.Subject, e.Seq, r))", "writes = append(writes, w)", ledgerPkg,
	},
	{
		"a take-over forgets what the new pool knows", "each job final in exactly one event",
		"internal/ledger/takeover.go", "w.Subject, w.Expect = targets[i], bySubject[targets[i]].Seq", "w.Subject = targets[i]", ledgerPkg,
	},
	{
		"a page with an open job has a time to live", "a service that succeeded is not called again",
		"internal/ledger/group.go", "if !page.next.Open() {", "if true {", ledgerPkg,
	},
	{
		"what was read before a reconnect is remembered", "every accepted job is final or still stored",
		"internal/ledger/pages.go", "if d.generation != p.generation {", "if false {", ledgerPkg,
	},
	{
		"nothing is forgotten after a reconnect", "every accepted job is final or still stored",
		"internal/ledger/pages.go", "p.cache = cache[pageKey, jobs.Page]{}", "", ledgerPkg,
	},
	{
		"jobs of a broker that was set back are committed", "every accepted job is final or still stored",
		"internal/ledger/committer.go", "if c.received.Before(restarted) {", "if c.received.Before(restarted) && false {", ledgerPkg,
	},
}
