package main

// ofPool are planted bugs of the pool.
var ofPool = []mutant{
	{
		"a lease is extended after the nak", "a job that is to be retried comes back when its back-off says",
		"internal/pool/flight.go", "\t\tvisit(f.batch.Jobs)", "\t\t<-f.turn\n\t\tvisit(f.batch.Jobs)\n\t\tf.turn <- struct{}{}",
		[]string{"./internal/pool", "-run", "TestNoLeaseIsExtended"},
	},
	{
		"ack before the commit", "every accepted job is final or still stored",
		"internal/pool/commit.go", "err := x.ledger.Commit(ctx, s)",
		"x.acknowledge(f, s)\n\t\terr := x.ledger.Commit(ctx, s)", sim,
	},
	{
		"the memory of an event is used again before it is stored", "every job is final in exactly one event",
		"internal/pool/commit.go", "err := x.ledger.Commit(ctx, s)",
		"x.events.put(s.Event)\n\t\terr := x.ledger.Commit(ctx, s)", sim,
	},
	{
		"the memory of jobs is used again before they are acked", "every accepted job is final or still stored",
		"internal/pool/commit.go", "x.events.put(s.Event)\n\t\t\ts.Event = nil", "x.events.put(s.Event)\n\t\t\ts.Event = nil\n\t\t\tx.memory.free(s.Batch.Jobs, &sheet{})", sim,
	},
	{
		"the memory of rulings is used again before the commit", "every job is final in exactly one event",
		"internal/pool/executor.go", "if err := x.bury(settling, s); err != nil {", "x.memory.free(nil, on)\n\tif err := x.bury(settling, s); err != nil {", sim,
	},
	{
		"ack although the commit failed", "every accepted job is final or still stored",
		"internal/pool/commit.go", "if !errors.As(err, &conflict) {\n\t\t\treturn end, s.Batch.Jobs, err\n\t\t}",
		"if !errors.As(err, &conflict) {\n\t\t\tx.acknowledge(f, s)\n\t\t\treturn end, s.Batch.Jobs, err\n\t\t}", sim,
	},
	{
		"retrying jobs are acked", "every accepted job is final or still stored",
		"internal/pool/commit.go", "x.nak(j, r.Delay)", "x.ack(j)", sim,
	},
	{
		"dead letters after the commit", "a job that ends badly has a dead letter",
		"internal/pool/commit.go", "if len(letters) == 0 {", "if len(letters) == 0 || ctx.Err() == nil {", sim,
	},
	{
		"a held job is taken twice", "each job final in exactly one event",
		"internal/pool/dispatcher.go", "case known:", "case known && false:", sim,
	},
	{
		"held jobs are not counted", "each job final in exactly one event",
		"internal/pool/dispatcher.go", "d.held.add(a.job)", "d.held.add(a.job)\n\t\td.held.remove([]*jobs.Job{a.job})", sim,
	},
	{
		"a cancelled job is called for", "a job is cancelled or otherwise final, never both",
		"internal/pool/fanout.go", "marked := c.executor.cancelled.mark(c.jobs(p))", "marked := []bool(nil)", poolPkg,
	},
	{
		"a cancelled job gets a dead letter", "a job is cancelled or otherwise final, never both",
		"internal/pool/executor.go", "if s = x.withoutCancelled(s); len(s.Batch.Jobs) == 0 {", "if len(s.Batch.Jobs) == 0 {", poolPkg,
	},
	{
		"a call for a cancelled job is not cut", "no call of a cancelled job begins later",
		"internal/pool/cancelled.go", "call.cut(errCancelled)", "_ = call", poolPkg,
	},
	{
		"redelivered jobs are not looked up", "a service that succeeded is not called again",
		"internal/pool/intake.go", "j.Record = records[i]", "j.Record = jobs.Record{Final: records[i].Final}", sim,
	},
	{
		"naks get lost", "a job that has to come back comes back after its back-off",
		"internal/pool/commit.go", "x.nak(j, r.Delay)", "_, _ = j, r.Delay", poolPkg,
	},
	{
		"leases are not extended", "a job that is worked on is not given to somebody else",
		"internal/pool/leases.go", "sent = sent && d.pool.parts.Settler.Extend(&j.Delivery) == nil", "_ = j", poolPkg,
	},
	{
		"leases of gathered jobs are not extended", "a batch may linger longer than a lease lasts",
		"internal/pool/dispatcher.go", "for _, members := range d.batcher.Open() {\n\t\tvisit(members)\n\t}\n\tvisit(d.suspects.waiting)", "visit(d.suspects.waiting)", []string{"./internal/app", "-run", "LingerLonger"},
	},
	{
		"a lost lease is not noticed", "a job that is worked on is not given to somebody else",
		"internal/pool/leases.go", "return elapsed(since, now) >= l.length()", "return false", poolPkg,
	},
	{
		"lone runs are not written down", "a poison job ends failed",
		"internal/pool/executor.go", "return m, true", "return m, false", sim,
	},
	{
		"a panic is taken for an answer", "a panic in a call is that call's error",
		"internal/pool/fanout.go", "if v := recover(); v != nil {", "if v := recover(); v != nil && false {", poolPkg,
	},
	{
		"the batcher drops the job that did not fit", "every accepted job is final or still stored",
		"internal/pool/batcher.go", "g.add(j)\n\tswitch {", "if len(sealed) == 0 {\n\t\tg.add(j)\n\t}\n\tswitch {", poolPkg,
	},
	{
		"more is taken than the slots hold", "memory is bounded",
		"internal/pool/intake.go", "p.gate.take(deliveries)", "p.gate.take(deliveries[:0])", poolPkg,
	},
	{
		"the drain forgets what has not started", "SIGTERM hands unstarted jobs back at once",
		"internal/pool/pool.go", "for _, j := range open {\n\t\tp.executor.nak(j, 0)\n\t}", "_ = open", poolPkg,
	},
	{
		"what was cancelled stays so after a set-back", "every accepted job is final or still stored",
		"internal/pool/cancelled.go", "c.young, c.old = nil, nil", "", sim,
	},
	{
		"acks get lost", "job stream and consumer are empty in the end",
		"internal/pool/commit.go", "if err := x.settler.Ack(deliveries...); err != nil {", "if err := error(nil); err != nil {", sim,
	},
	{
		"memory of a body is used again while it is read", "a service gets the jobs of its batch",
		"internal/pool/body.go", "if e.readers.Load() == 0 {", "if len(e.text) > 0 {", poolPkg,
	},
	{
		"a call that failed as a whole is repeated as a whole", "one poison job costs its mates few attempts",
		"internal/pool/fanout.go", "Free: f.Free, Group: f.NextGroup(n),", "Free: f.Free,", poolPkg,
	},
	{
		"a service that refuses everybody costs attempts", "an outage costs no attempt and no job",
		"internal/pool/fanout.go", "Free: f.Free, Group: f.NextGroup(n),", "Group: f.NextGroup(n),", sim,
	},
	{
		"a mistake in the settings fails the jobs", "a mistake in the settings is nobody's job",
		"internal/pool/fanout.go", "if f.Final {\n\t\treply.Status", "if f.Final || f.Misconfigured {\n\t\treply.Status", sim,
	},
	{
		"calls ignore how large they may be", "one poison job costs its mates few attempts",
		"internal/pool/fanout.go", "if !found || bound > 0 && len(parts[n]) >= bound {", "if !found {", poolPkg,
	},
	{
		"groups of suspects are not halved", "a crash is blamed on the job that causes it",
		"internal/pool/executor.go", "Group: max(n/2, 1)}", "Group: n}", poolPkg,
	},
	{
		"several groups of suspects at once", "a crash is blamed on the job that causes it",
		"internal/pool/suspects.go", "if d.group != nil || len(s.waiting) == 0", "if len(s.waiting) == 0", poolPkg,
	},
	{
		"a job that was alone runs beside others", "a crash is blamed on the job that causes it",
		"internal/pool/suspects.go", "f.alone = alone", "_ = alone", poolPkg,
	},
	{
		"suspects are called for before the last group's end is recorded", "a crash is blamed on the job that causes it",
		"internal/pool/dispatcher.go", "\t\td.pool.gate.called(f.room, f.kept, d.pool.cfg.ahead(d.callTime))\n",
		"\t\td.pool.gate.called(f.room, f.kept, d.pool.cfg.ahead(d.callTime))\n\t\tif d.group == f {\n\t\t\td.group = nil\n\t\t}\n", sim,
	},
	{
		"a drain cut at its deadline counts as a crash", "ends that the process sees are no crashes",
		"internal/pool/executor.go", "open, finished := x.account(settling, members)", "open, finished := members, []*jobs.Job(nil)", poolPkg,
	},
	{
		"a lost lease counts as a crash", "ends that the process sees are no crashes",
		"internal/pool/leases.go", "d.tasks.Go(d.pool.executor.accountLater(d.accounting, lost))", "", []string{"./internal/app", "-run", "Flaps"},
	},
	{
		"how long a message may be is read once", "a commit fits what the server takes",
		"internal/app/wire.go", "p.pool.MaxPayload = func() int { return int(conn.NATS().MaxPayload()) }",
		"once := int(conn.NATS().MaxPayload())\n\tp.pool.MaxPayload = func() int { return once }", []string{"./internal/app", "-run", "MaxPayloadThatIsLowered"},
	},
	{
		"a job's end goes by the clock of the machine", "times in events go by the broker's clock",
		"internal/pool/commit.go", "now := x.now()", "now := time.Now()", sim,
	},
	{
		"a batch may have any size", "a setting that no machine can hold is refused",
		"internal/pool/config.go", "c.BatchBytes > 0 && c.BatchBytes <= maxBatchBytes", "c.BatchBytes > 0", []string{"./internal/app", "-run", "UpperBound"},
	},
	{
		"routes are ignored", "a job goes to the services that take it",
		"internal/pool/route.go", "if named && s.Takes(j.Subject) {", "if named {", poolPkg,
	},
	{
		"a job that no service takes succeeds", "a job is done when every required service said so",
		"internal/pool/route.go", "if j.Route, fault = x.routeOf(j); fault != \"\" {", "if j.Route, fault = x.routeOf(j); false {", poolPkg,
	},
	{
		"a process that was stopped believes its leases", "a lease whose time has passed is lost",
		"internal/pool/leases.go", "if received.After(since) {", "if since = now; received.After(since) {", poolPkg,
	},
	{
		"a batch leaves a goroutine behind", "goroutines are bounded",
		"internal/pool/fanout.go", "wg.Wait()\n\tencoded.free()\n", "wg.Wait()\n\tgo func() { select {} }()\n", poolPkg,
	},
	{
		"a job's age goes by the clock of the machine", "a fresh job is not expired",
		"internal/pool/executor.go", "x.route(batch.Jobs, x.now())", "x.route(batch.Jobs, time.Now())", poolPkg,
	},
	{
		"a body is let go before its dead letter", "a dead letter has the body of its job",
		"internal/pool/executor.go", "\tif err := x.bury(settling, s)", "\tdropBodies(batch.Jobs)\n\tif err := x.bury(settling, s)", poolPkg,
	},
}
