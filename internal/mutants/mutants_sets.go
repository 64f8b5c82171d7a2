package main

// ofSets are planted bugs of sets and of cancelling, one for each sentence of what is promised.
var ofSets = []mutant{
	{
		"the end mark of a set goes before its tallies", "a set ends in one event",
		"internal/ledger/setend.go", "TTL: s.markTTL(), Data", "TTL: s.cfg.EventTTL, Data", []string{"./internal/ledger", "-run", "TheEndMarkOutlives"},
	},
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
		"a set may have no members", "a set has a whole number of members, 1 or more",
		"internal/jobs/header.go", "if err != nil || n == 0 {", "if err != nil {", pure,
	},
	{
		"closing a set declares nothing", "a member or a person declares the size of a set",
		"internal/ledger/tally.go", "tally := jobs.SetTally{Size: size}", "tally := jobs.SetTally{Size: min(size, 0)}", ledgerPkg,
	},
	{
		"tallies are written behind the commit", "a member is counted in the publish that makes it final",
		"internal/ledger/committer.go", "first, err := r.store.Apply(ctx, writes)",
		"n := len(d.pages.list)\n\tfirst, err := r.store.Apply(ctx, append(append([]Write{}, writes[:min(n, len(writes))]...), writes[min(n+len(d.counted()), len(writes)):]...))\n" +
			"\tif err == nil && len(d.counted()) > 0 {\n\t\t_, err = r.store.Apply(ctx, writes[n:n+len(d.counted())])\n\t}", ledgerPkg,
	},
	{
		"one lane for all", "each replica counts in a lane of its own",
		"internal/ledger/subjects.go", "sum := sha256.Sum256([]byte(replica))", "sum := sha256.Sum256([]byte(replica[:0]))", ledgerPkg,
	},
	{
		"sets are looked at by the commit that touches them", "the end of a set is not in the way of acks",
		"internal/ledger/sets.go", "func (s *Sets) Touched(sets []string) {\n", "func (s *Sets) Touched(sets []string) {\n\t_ = s.lookAt(context.Background(), sets)\n", ledgerPkg,
	},
	{
		"a group holds any number of messages", "a commit holds at most 1000 messages",
		"internal/ledger/committer.go", "(writes > MaxGroup || bytes > maxGroupBytes)", "(bytes > maxGroupBytes)", ledgerPkg,
	},
	{
		"an end without its event", "a set ends in exactly one event",
		"internal/ledger/setend.go", "Write{Subject: s.cfg.EventSubject(s.cfg.Pool, outcome, state.Set), TTL", "Write{Subject: s.cfg.set(state.Set, \"x\"), TTL", ledgerPkg,
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
		"internal/ledger/setend.go", "Write{Subject: s.cfg.set(state.Set, setEnd), TTL: s.markTTL(), Data", "Write{Subject: s.cfg.set(state.Set, setEnd), Data", ledgerPkg,
	},
	{
		"a batch may need any number of tallies", "a commit holds at most 1000 messages",
		"internal/pool/batcher.go", "if _, known := g.sets[j.Set]; j.Set == \"\" || known {", "if true {", poolPkg,
	},
	{
		"a cancelled member is not counted", "page, tally and event of a cancelled job are one publish",
		"internal/operate/cancel.go", "j.Received = time.Now()", "j.Received, j.Set = time.Now(), \"\"", cancels,
	},
	{
		"the event of a cancelled job looks like another", "the event of a cancel is sealed by it",
		"internal/operate/cancel.go", "Seal: jobs.SealCancel", "Seal: jobs.SealLone", cancels,
	},
	{
		"a job that has ended is cancelled all the same", "a job is cancelled or otherwise final, never both",
		"internal/operate/cancel.go", "\t\tcase JobFinal:\n", "\t\tcase \"never\":\n", cancels,
	},
	{
		"who lost to a replica takes its job for cancelled", "a job is cancelled or otherwise final, never both",
		"internal/operate/cancel.go", "return fmt.Errorf(\"job %s: %w\", j.UID, ErrFinal)\n\t}\n\tif err == nil && j.Set", "return nil\n\t}\n\tif err == nil && j.Set",
		[]string{"./internal/operate", "-run", "LostToAReplica"},
	},
	{
		"waiting members of a set are not cancelled", "set cancel cancels every open member",
		"internal/operate/cancelset.go", "for _, filter := range c.streams.Subjects {", "for _, filter := range c.streams.Subjects[:0] {", cancels,
	},
	{
		"a delayed job is cancelled under the uid of another", "the event of a delayed job has its uid in LATER",
		"internal/operate/canceldelayed.go", "j.UID, j.ID, j.Subject = report.UID, report.ID, report.Subject", "j.ID, j.Subject = report.ID, report.Subject", cancels,
	},
	{
		"the event of a cancel names a service", "the event of a cancel has no services",
		"internal/operate/cancel.go", "Replies: make([]jobs.Replies, 1),", "Replies: []jobs.Replies{{nil}}, Services: []jobs.ServiceReport{{Name: \"x\"}},", cancels,
	},
	{
		"a cancelled job has a dead letter", "a cancelled job has no dead letter",
		"internal/operate/cancel.go", "\terr := c.ledger.Commit(ctx, s)\n",
		"\t_, _ = c.conn.JetStream().Publish(ctx, bus.DeadSubject(c.pool, j.Subject), j.Data)\n\terr := c.ledger.Commit(ctx, s)\n", cancels,
	},
	{
		"the times of a schedule go by the clock of the machine", "times go by the broker's clock",
		"internal/operate/schedule.go", "s.Next = parsed.Next(now)", "s.Next = parsed.Next(time.Now())", []string{"./internal/operate", "-run", "ScheduleTimes"},
	},
	{
		"the last time of an interval goes by the clock of the machine", "times go by the broker's clock",
		"internal/operate/schedule.go", "s.Last = first.Add(now.Sub(first)", "s.Last = first.Add(time.Since(first)", []string{"./internal/operate", "-run", "ScheduleTimes"},
	},
	{
		"sets age by the clock of a machine that is a minute ahead", "set ages go by the broker's clock",
		"internal/ledger/sets.go", "func NewSets(store Upkeep, cfg SetsConfig, log zerolog.Logger) *Sets {\n",
		"func NewSets(store Upkeep, cfg SetsConfig, log zerolog.Logger) *Sets {\n\tcfg.Now = func() time.Time { return time.Now().Add(time.Minute) }\n",
		[]string{"./internal/bus", "-run", "SetsAge"},
	},
	{
		"a job of a key that is open is published all the same", "a unique job is refused while one is open",
		"internal/operate/posting.go", "m.Header.Set(jetstream.ExpectedLastSubjSeqHeader, \"0\")", "_ = jetstream.ExpectedLastSubjSeqHeader", []string{"./cmd/worker", "-run", "TestPublish_Unique"},
	},
	{
		"a replay of a replay is not followed", "a time line has every replay",
		"internal/operate/timeline.go", "family[r.UID], replayed[r.UID] = true, true", "replayed[r.UID] = true", []string{"./internal/operate", "-run", "EveryReplay"},
	},
	{
		"schedules are counted as delayed jobs", "delayed jobs are counted wherever jobs are",
		"internal/operate/admin.go", "return stored - min(schedules, stored), err", "return stored - min(schedules, 0), err", []string{"./internal/operate", "-run", "StateOfAPool"},
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
		"internal/operate/cancelset.go", "if err != nil || later == nil {", "if true {", cancels,
	},
	{
		"a cancelled delayed job stays in LATER", "a delayed job is removed from LATER",
		"internal/operate/canceldelayed.go", "if err := later.DeleteMsg(ctx, ack.Sequence);", "if err := error(nil); ack != nil &&", cancels,
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
