package main

var (
	sim       = []string{"./internal/sim", "-seeds", "600"}
	poolPkg   = []string{"./internal/pool"}
	busPkg    = []string{"./internal/bus"}
	ledgerPkg = []string{"./internal/ledger"}
	service   = []string{"./internal/service"}
	pure      = []string{"./internal/jobs"}
	renamed   = []string{"./internal/app", "-run", "Renamed"}
	setBack   = []string{"./internal/bus", "-run", "SetBack|FurtherAgain"}
	wired     = []string{"./internal/app"}
	asked     = []string{"./internal/operate"}
	printed   = []string{"./internal/table"}
	logged    = []string{"./internal/telemetry"}
)

// mutants are the planted bugs.
var mutants = []mutant{
	{
		"ack before the commit", "every accepted job is final or still stored",
		"internal/pool/commit.go", "err := x.ledger.Commit(ctx, s)",
		"x.acknowledge(f, s)\n\t\terr := x.ledger.Commit(ctx, s)", sim,
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
		"no fence", "each job final in exactly one event",
		"internal/bus/donestore.go", "headerExpect:   {strconv.FormatUint(w.Expect, 10)},", "", busPkg,
	},
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
		"a held job is taken twice", "each job final in exactly one event",
		"internal/pool/dispatcher.go", "case d.holds(a.job):", "case false:", sim,
	},
	{
		"a lost answer is taken for a lost race", "one event per batch",
		"internal/ledger/group.go", "if found.events[c.event.Subject] {", "if false {", ledgerPkg,
	},
	{
		"a cancelled job is called for", "a job is cancelled or otherwise final, never both",
		"internal/pool/executor.go", "batch = x.dropCancelled(batch)", "", poolPkg,
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
		"a member that is retried counts", "each member of a set is counted once",
		"internal/ledger/group.go", "if j.Set == \"\" || !ruling.Outcome.Final() {", "if j.Set == \"\" {", ledgerPkg,
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
		"a set ends before its last member", "a set ends after its last member",
		"internal/jobs/set.go", "return t.Size > 0 && t.Counts.Total >= t.Size", "return t.Size > 0 && t.Counts.Total > 0", ledgerPkg,
	},
	{
		"the end mark is another's", "a set ends in exactly one event",
		"internal/ledger/sets.go", "Write{Subject: s.cfg.set(state.Set, setEnd), TTL", "Write{Subject: s.cfg.set(state.Set, setEnd) + state.Set[:1], TTL", ledgerPkg,
	},
	{
		"a set never grows old", "a set that is not complete is abandoned",
		"internal/ledger/opensets.go", "if old || size > 0 && total >= size {", "if size > 0 && total >= size {", ledgerPkg,
	},
	{
		"nobody sweeps the sets", "what a crash leaves open is ended",
		"internal/ledger/opensets.go", "for _, set := range s.open.due(now.Add(-s.cfg.MaxAge)) {", "for _, set := range s.open.due(now)[:0] {", ledgerPkg,
	},
	{
		"events live for ever", "a bounded number of events is kept",
		"internal/ledger/ledger.go", "TTL: l.cfg.EventTTL, ", "", busPkg,
	},
	{
		"the job stream allows rollups", "no job deletes another",
		"internal/bus/wanted.go", "Retention:   jetstream.WorkQueuePolicy,", "Retention: jetstream.WorkQueuePolicy, AllowRollup: true,", []string{"./deploy/nats"},
	},
	{
		"delayed jobs are swept before they have entered", "every accepted job is final or still stored",
		"internal/bus/due.go", "Before: entered + 1", "Before: 0", busPkg,
	},
	{
		"delayed jobs are never swept", "LATER does not grow for ever",
		"internal/bus/due.go", "if err != nil || entered == 0 || entered == s.swept {", "if true {", busPkg,
	},
	{
		"a drift that fakes jobs is not refused", "what would lose or fake jobs is refused at the start",
		"internal/bus/drift.go", "if drift[i].Fatal {", "if false {", busPkg,
	},
	{
		"an unknown difference is silent", "drift is judged by the whole configuration",
		"internal/bus/drift.go", "e = unknownField()", "continue", busPkg,
	},
	{
		"history becomes jobs unasked", "a first start on history wants ROLLCALL_START",
		"internal/bus/consumer.go", `if !h.repeats || h.messages == 0 || s.streams.Start != "" {`, "if true {", busPkg,
	},
	{
		"a pool takes its own events", "a pool that would take its own events is refused",
		"internal/bus/ownevents.go", `if own := meets(writtenBy(pool), filter); own != "" {`, `if own := meets(writtenBy(pool), filter); own == ">" {`, busPkg,
	},
	{
		"the stream epoch is left out", "a recreated stream's jobs are new work",
		"internal/ledger/subjects.go", "b = append(b, epoch...)", "b = append(b, 'e')", busPkg,
	},
	{
		"redelivered jobs are not looked up", "a service that succeeded is not called again",
		"internal/pool/intake.go", "j.Record = records[i]", "j.Record = jobs.Record{Final: records[i].Final}", sim,
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
		"a job not listed in results counts as ok", "a job is done when every required service said so",
		"internal/service/sheet.go", "if dialect == dialectFailures {\n\t\ts.restIsOK()", "if true {\n\t\ts.restIsOK()", service,
	},
	{
		"a hole escapes its segment", "nothing that a job contains changes where its request goes",
		"internal/service/target.go", "return percentEncode(value), nil\n}\n\nfunc encodeQuery", "return value, nil\n}\n\nfunc encodeQuery", service,
	},
	{
		"dots lead out of a path", "nothing that a job contains changes where its request goes",
		"internal/service/target.go", "text = closeDots(text)", "text = closeDots(text)[:0] + text", service,
	},
	{
		"a 401 kills jobs", "a mistake in the settings is nobody's job",
		"internal/service/status.go", "case code < 400, r.accuses(code):", "case code < 400:", service,
	},
	{
		"a mistake in the settings leaves the breaker closed", "a mistake in the settings is nobody's job",
		"internal/service/run.go", "\t\tc.breaker.Open()\n", "", service,
	},
	{
		"a 429 burns an attempt", "only an answer about the job burns an attempt",
		"internal/service/failure.go", "f.Reason != jobs.ReasonThrottled && ", "", service,
	},
	{
		"a reset of a kept connection is a failure", "a success is not called again, an attempt not burnt for nothing",
		"internal/service/http.go", "ctx.Err() == nil && isReset(err)", "ctx.Err() == nil && false", service,
	},
	{
		"the key of a job changes with its batch", "a request for a job has the same key at every attempt",
		"internal/service/each.go", "j.JobKey(e.service.name)", "j.JobKey(e.service.name+e.call.BatchID)", service,
	},
	{
		"an extension stays behind", "a producer's CloudEvent reaches the services unchanged",
		"internal/jobs/attribute.go", "j.Attributes = append(j.Attributes, a)", "_ = a", pure,
	},
	{
		"an answer of a service's own is unreadable", "a success is not called again",
		"internal/service/reply.go", "case dialect == \"\":\n\t\treturn d.ok(len(call.Jobs)), nil", "case dialect == \"\":\n\t\treturn nil, unreadable(\"no dialect\")", service,
	},
	{
		"naks get lost", "a job that has to come back comes back after its back-off",
		"internal/pool/commit.go", "x.nak(j, r.Delay)", "_ = r.Delay", poolPkg,
	},
	{
		"leases are not extended", "a job that is worked on is not given to somebody else",
		"internal/pool/leases.go", "sent = sent && d.pool.parts.Settler.Extend(&j.Delivery) == nil", "_ = j", poolPkg,
	},
	{
		"a lost lease is not noticed", "a job that is worked on is not given to somebody else",
		"internal/pool/leases.go", "return elapsed(since, now) >= l.length", "return false", poolPkg,
	},
	{
		"a crash loop never ends", "a poison job ends failed",
		"internal/jobs/record.go", "func (r Record) CrashLoop() bool { return r.Lone >= maxLone }",
		"func (r Record) CrashLoop() bool { return false }", sim,
	},
	{
		"lone runs are not written down", "a poison job ends failed",
		"internal/pool/executor.go", "return m, true", "return m, false", sim,
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
		"internal/pool/pool.go", "for _, j := range open {\n\t\tp.executor.nak(j, 0)\n\t}", "", poolPkg,
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
		"internal/ledger/subjects.go", "return string(n.appendPages(nil)) + \"*.*.*\"", "n.Stream = \"*\"\n\treturn string(n.appendPages(nil)) + \"*.*.*\"", ledgerPkg,
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
		"a renamed pool starts from nothing", "a service that succeeded is not called again",
		"internal/bus/takeover.go", "if waits {", "if false {", renamed,
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
		"a broker that was set back is not noticed", "every accepted job is final or still stored",
		"internal/bus/highwater.go", "case info.State.LastSeq < mark.last.Load():", "case false:", setBack,
	},
	{
		"nothing is forgotten after a reconnect", "every accepted job is final or still stored",
		"internal/ledger/pages.go", "p.cache = cache[pageKey, jobs.Page]{}", "", ledgerPkg,
	},
	{
		"commits go out before the broker was looked at", "every accepted job is final or still stored",
		"internal/bus/highwater.go", "if h.watching.Load() && h.checked.Load() != h.conn.generation() {", "if false {", busPkg,
	},
	{
		"what was cancelled stays so after a set-back", "every accepted job is final or still stored",
		"internal/pool/cancelled.go", "c.young, c.old = nil, nil", "", sim,
	},
	{
		"jobs of a broker that was set back are committed", "every accepted job is final or still stored",
		"internal/ledger/committer.go", "if c.received.Before(restarted) {", "if false {", ledgerPkg,
	},
	{
		"acks get lost", "job stream and consumer are empty in the end",
		"internal/pool/commit.go", "if err := x.settler.Ack(&j.Delivery); err != nil {", "if err := error(nil); err != nil {", sim,
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
		"a call that failed as a whole is repeated as a whole", "one poison job costs its mates few attempts",
		"internal/pool/fanout.go", "Free: f.Free, Group: f.NextGroup(n),", "Free: f.Free,", poolPkg,
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
		"routes are ignored", "a job goes to the services that take it",
		"internal/pool/route.go", "if named && s.Takes(j.Subject) {", "if named {", poolPkg,
	},
	{
		"a job that no service takes succeeds", "a job is done when every required service said so",
		"internal/pool/route.go", "if j.Route, fault = x.routeOf(j); fault != \"\" {", "if j.Route, fault = x.routeOf(j); false {", poolPkg,
	},
	{
		"headers take no memory", "memory is bounded",
		"internal/jobs/delivery.go", "n += len(v)", "_ = v", pure,
	},
	{
		"a process that was stopped believes its leases", "a lease whose time has passed is lost",
		"internal/pool/leases.go", "if received.After(since) {", "if since = now; received.After(since) {", poolPkg,
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
		"internal/jobs/cloudevent.go", `b = appendField(b, "id", j.ID)`, `b = appendField(b, "id", j.UID)`, wired,
	},
	{
		"a call names jobs by another source", "every call for a job has the same source and id",
		"internal/jobs/cloudevent.go", `b = appendField(b, "source", j.Source)`, `b = appendField(b, "source", j.Source+j.UID)`, wired,
	},
	{
		"a batch leaves a goroutine behind", "goroutines are bounded",
		"internal/pool/fanout.go", "wg.Wait()\n\treturn columns", "wg.Wait()\n\tgo func() { select {} }()\n\treturn columns", poolPkg,
	},
	{
		"a commit that was given up waits for the reconnect", "each job final in exactly one event",
		"internal/bus/conn.go", "nats.ReconnectBufSize(-1), ", "", []string{"./internal/bus", "-run", "TestNothingGivenUp"},
	},
	{
		"a lost connection is left to the kernel to flush", "each job final in exactly one event",
		"internal/bus/line.go", "if !l.polite.Load() {", "if false {", []string{"./internal/bus", "-run", "TestNothingGivenUp"},
	},
	{
		"settlements are not bound to their stream", "every accepted job is final or still stored",
		"internal/bus/ack.go", "case w.epoch != epoch:", "case w.epoch == \"\" && epoch == \"\":",
		[]string{"./internal/bus", "-run", "TestSettlements"},
	},
	{
		"settlements are sent without a look at the stream", "every accepted job is final or still stored",
		"internal/bus/ack.go", "case len(s.settlements) > 0 || !s.proven(time.Now()):", "case len(s.settlements) > 0:",
		[]string{"./internal/bus", "-run", "TestSettlements"},
	},
	{
		"leases are renewed by the settings", "a long call is no crash",
		"internal/bus/binding.go", "if lease := s.binding.terms.lease; lease > 0 {", "if lease := s.binding.terms.lease; lease < 0 {",
		[]string{"./internal/bus", "-run", "TestLeases"},
	},
	{
		"a lapsed lease is handed out", "a service that succeeded is not called again",
		"internal/bus/ack.go", "if elapsed(d.Received) < lease {", "if elapsed(d.Received) < lease || true {", []string{"./internal/bus", "-run", "TestLapsed"},
	},
	{
		"pulls ignore what the consumer allows", "the pool works on a consumer with limits",
		"internal/bus/pulls.go", "if allowed.maxJobs > 0 {", "if false {", []string{"./internal/bus", "-run", "TestPullsFit"},
	},
	{
		"a refusal that does not pass is kept quiet", "a pool that gets no jobs is not ready",
		"internal/bus/pulls.go", "if s.refusals++; s.refusals >= refusalsBearable {", "if false {", []string{"./internal/bus", "-run", "TestARefusal"},
	},
	{
		"a job's age goes by the clock of the machine", "a fresh job is not expired",
		"internal/pool/executor.go", "x.route(batch.Jobs, x.now())", "x.route(batch.Jobs, time.Now())", poolPkg,
	},
	{
		"the broker's clock is not asked for", "a fresh job is not expired",
		"internal/bus/clock.go", "return best.offset, true", "return 0, true", []string{"./internal/bus", "-run", "Clock"},
	},
	{
		"subscriptions that the server has dropped stay lost", "a worker works again once its rights are back",
		"internal/bus/lost.go", "signal(c.dropped)", "_ = signal", []string{"./internal/bus", "-run", "TestRights"},
	},
	{
		"pulls that nobody answers are no reason for doubt", "a pool that gets no jobs is not ready",
		"internal/bus/pulls.go", "s.unanswered += silent", "", []string{"./internal/bus", "-run", "TestRights"},
	},
	{
		"every denied subject is remembered", "memory is bounded",
		"internal/bus/denials.go", "if len(d.seen) >= maxDenials {", "if false {", []string{"./internal/bus", "-run", "TestDenials"},
	},
	{
		"pulls ask for more than the link carries", "a slow link costs no repeated calls",
		"internal/bus/pulls.go", "bytes = min(bytes, p.window-p.bytes)", "", []string{"./internal/bus", "-run", "SlowLink"},
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
