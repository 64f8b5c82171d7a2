package main

// ofBus are planted bugs of what speaks to the broker.
var ofBus = []mutant{
	{
		"a commit that nobody read stays under way", "each job final in exactly one event",
		"internal/bus/donestore.go", "\t\t\ts.conn.readOrCut(line)\n", "\t\t\t_ = line\n",
		[]string{"./internal/bus", "-run", "TestACommitArrives"},
	},
	{
		"no fence", "each job final in exactly one event",
		"internal/bus/donestore.go", "headerExpect:   {strconv.FormatUint(w.Expect, 10)},", "", busPkg,
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
		"history is worked through unasked", "a start on history wants ROLLCALL_START",
		"internal/bus/consumer.go", `if !h.repeats || h.messages == 0 || s.streams.Start != "" {`, "if true {", busPkg,
	},
	{
		"a pool takes its own events", "a pool that would take its own events is refused",
		"internal/bus/ownevents.go", `if own := meets(writtenBy(pool), filter); own != "" {`, `if own := meets(writtenBy(pool), filter); own == ">" {`, busPkg,
	},
	{
		"what is done counts as old in a stream of others", "nothing is stuck or old that the consumer has delivered",
		"internal/operate/admin.go", "max(state.FirstSeq, consumer.AckFloor.Stream+1), time.Time{}", "state.FirstSeq, time.Time{}",
		[]string{"./internal/operate", "-run", "TestWhatIsDoneIs"},
	},
	{
		"pools with streams of their own share an archive", "an archive keeps the events of its pool",
		"internal/bus/archive.go", "return StreamHistory + strings.TrimPrefix(c.Done(), StreamDone)", "return StreamHistory",
		[]string{"./cmd/worker", "-run", "TestCommandsWorkWithAStream"},
	},
	{
		"a fix that the CLI does not take", "a difference names the command that ends it",
		"internal/bus/fix.go", `{name: "ack", inverted: true}`, `{name: "no-ack"}`, []string{"./internal/bus", "-run", "TestFixes"},
	},
	{
		"a renamed pool starts from nothing", "a service that succeeded is not called again",
		"internal/bus/takeover.go", "if waits {", "if waits && false {", renamed,
	},
	{
		"a broker that was set back is not noticed", "every accepted job is final or still stored",
		"internal/bus/highwater.go", "case info.State.LastSeq < mark.last.Load():", "case false:", setBack,
	},
	{
		"commits go out before the broker was looked at", "every accepted job is final or still stored",
		"internal/bus/highwater.go", "if h.watching.Load() && h.checked.Load() != h.conn.generation() {", "if false {", busPkg,
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
		"internal/bus/ack.go", "atOnce := len(s.settlements) == 0 && s.proven(time.Now(), proofAge)", "atOnce := len(s.settlements) == 0",
		[]string{"./internal/bus", "-run", "TestSettlements"},
	},
	{
		"leases are renewed by the settings", "a long call is no crash",
		"internal/bus/binding.go", "if lease := s.binding.terms.lease; lease > 0 {", "if lease := s.binding.terms.lease; lease < 0 {",
		[]string{"./internal/bus", "-run", "TestLeases"},
	},
	{
		"a lapsed lease is handed out", "a service that succeeded is not called again",
		"internal/bus/ack.go", "if elapsed(d.Received, now) < lease {", "if elapsed(d.Received, now) < lease || true {", []string{"./internal/bus", "-run", "TestLapsed"},
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
		"the broker's clock is not asked for", "a fresh job is not expired",
		"internal/bus/clock.go", "return best.offset, true", "return 0, true", []string{"./internal/bus", "-run", "Clock"},
	},
	{
		"a slow reply about the clock counts like a fast one", "a fresh job is not expired",
		"internal/bus/clock.go", "best == nil || open <= least {", "best == nil || open <= least || open > 0 {", sim,
	},
	{
		"a partition makes the broker's clock unknown", "a fresh job is not expired",
		"internal/bus/clock.go", "stepped.Abs() > clockStep {", "stepped.Abs() > clockStep || passed > 5*time.Minute {", sim,
	},
	{
		"a dead letter is dated by the clock of the machine", "times go by the broker's clock",
		"internal/bus/deadletters.go", "began, failed := time.Now(), d.conn.clock.Now()", "began, failed := time.Now(), time.Now()",
		[]string{"./internal/bus", "-run", "TestADeadLetterIsDated"},
	},
	{
		"a letter keeps the size of its first attempt", "a job that ends badly has a dead letter",
		"internal/bus/deadletters.go", "now != limit {", "limit == 0 {", []string{"./internal/bus", "-run", "LettersFit"},
	},
	{
		"the stream of dead letters is not made again", "nothing waits for what somebody has deleted",
		"internal/bus/deadletters.go", "if d.setup != nil && errors.Is(err, nats.ErrNoResponders) {", "if false {",
		[]string{"./internal/bus", "-run", "TestTheStreamOfDeadLetters"},
	},
	{
		"a stream that nobody answers for yet is not asked again", "a replica starts beside a cluster that starts",
		"internal/bus/directget.go", "if errors.Is(err, nats.ErrNoResponders) {", "if false {",
		[]string{"./internal/bus", "-run", "TestReadsWait"},
	},
	{
		"a header of a producer names the sequence of a job", "whoever may publish cannot have the jobs of others removed",
		"internal/bus/directget.go", "return values[len(values)-1]", "return values[0]",
		[]string{"./internal/bus", "-run", "TestHeadersOfAProducer"},
	},
	{
		"a job is removed where a batch says that it is", "whoever may publish cannot have the jobs of others removed",
		"internal/operate/job.go", "jobs.SubjectCovers(filter, stored.Subject) && wanted(stored)", "wanted(stored)",
		[]string{"./internal/operate", "-run", "TestAPoolActsOnItsOwnJobs"},
	},
	{
		"a producer's word ends a scan", "every stored job is found",
		"internal/bus/directget.go", " || !wholeStatus(reply) {", " {",
		[]string{"./internal/operate", "-run", "TestAProducerCannotHide"},
	},
	{
		"a header of a producer ends a read", "every stored job is found",
		"internal/bus/directget.go", "if len(reply.Header[headerSequence]) > 0 || ", "if ",
		[]string{"./internal/operate", "-run", "TestAProducerCannotHide"},
	},
	{
		"a status may be as long as it likes", "every stored job is found",
		"internal/bus/directget.go", "min(space, maxSpace)", "space",
		[]string{"./internal/operate", "-run", "TestAProducerCannotHide"},
	},
	{
		"a pool acts on a job of another by its uid", "whoever may publish cannot have the jobs of others removed",
		"internal/operate/job.go", "return jobs.SubjectCovers(filter, subject) })", "return true })", []string{"./internal/operate", "-run", "TestAPoolActsOnItsOwnJobs"},
	},
	{
		"a delayed job is cancelled under the number of another", "a job is cancelled or otherwise final, never both",
		"internal/operate/canceldelayed.go", "\tif other != nil {", "\tif other != nil && other.Sequence == 0 {",
		[]string{"./internal/operate", "-run", "CutShortHasItsEvent"},
	},
	{
		"a held job forgets what it was called", "a job is cancelled or otherwise final, never both",
		"internal/bus/held.go", "held.Header.Set(\"ce-id\", id)", "_ = id", []string{"./internal/operate", "-run", "CutShort"},
	},
	{
		"a delayed job is held with all of its headers", "whatever waits can be cancelled",
		"internal/bus/held.go", "KeptHeaders(m.Header, nats.Header{headerHeld: nil})", "m.Header",
		[]string{"./internal/operate", "-run", "KeepsADelayedJob"},
	},
	{
		"subscriptions that the server has dropped stay lost", "a worker works again once its rights are back",
		"internal/bus/lost.go", "signal(c.dropped)", "_ = signal", []string{"./internal/bus", "-run", "TestRights"},
	},
	{
		"subscriptions beyond a limit stay lost", "a worker works again once its limits are back",
		"internal/bus/denials.go", "if errors.Is(err, nats.ErrMaxSubscriptionsExceeded) {", "if false {",
		[]string{"-tags", "fault", "./test/fault", "-run", "TestRightsAndLimits/subscriptions"},
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
		"a registration that was lost is not made again", "status finds every replica",
		"internal/operate/announce.go", "case lost <- struct{}{}:", "case chan struct{}(nil) <- struct{}{}:", []string{"./internal/operate", "-run", "FoundAgain"},
	},
	{
		"pulls ask for exactly the bytes that their jobs weigh", "jobs come as long as some are waiting",
		"internal/bus/window.go", "return slack * int64(n)", "return int64(n)", []string{"./internal/bus", "-run", "FitsTheWindow"},
	},
	{
		"pulls ask for more than the link carries", "a slow link costs no repeated calls",
		"internal/bus/pulls.go", "min(free, fits-p.jobs)", "free", []string{"./internal/bus", "-run", "SlowLink"},
	},
	{
		"acks of delayed jobs do not wait", "a delayed job is done once, whatever the broker forgets",
		"internal/bus/ack.go", "s.respond(s.holdDue(done), ", "s.respond(done, ", []string{"./internal/bus", "-run", "HasLeftLater"},
	},
	{
		"a drain forgets the acks of delayed jobs", "a delayed job is done once, whatever the broker forgets",
		"internal/bus/source.go", " || len(s.due.waiting) > 0 || s.due.sweeping", "", []string{"./internal/bus", "-run", "OnceTheAcks"},
	},
	{
		"jobs of an older LATER sweep the new one", "every accepted job is final or still stored",
		"internal/bus/dueacks.go", "case !d.Published.After(from.Created):", "case false:", []string{"./internal/bus", "-run", "OlderLater"},
	},
	{
		"delayed jobs are never acked where LATER cannot be swept", "a job that is done leaves its stream",
		"internal/bus/dueacks.go", "case errors.Is(err, ErrDenied):", "case false:", []string{"./internal/bus", "-run", "CannotBeSwept"},
	},
	{
		"what a job says of LATER is believed", "every accepted job is final or still stored",
		"internal/bus/dueacks.go", "case seq <= entered:", "case seq <= max(entered, seq):", []string{"./internal/bus", "-run", "SaysItWasDelayed"},
	},
	{
		"delayed jobs wait for a stream that sources nothing", "a job that is done leaves its stream",
		"internal/bus/dueacks.go", "if !takesDelayed(&into.Config) {", "if false {", []string{"./internal/bus", "-run", "NothingIsSourced"},
	},
	{
		"a job is acked before its entering is known", "a delayed job is done once, whatever the broker forgets",
		"internal/bus/dueacks.go", "case seq <= from.State.LastSeq:", "case seq == 0:", []string{"./internal/bus", "-run", "AreKnownToHaveEntered"},
	},
	{
		"a job that was never delayed is never acked", "a job that is done leaves its stream",
		"internal/bus/dueacks.go", "case known && d.Ref.Seq <= into.State.LastSeq:", "case known && seq == 0:", []string{"./internal/bus", "-run", "SaysItWasDelayed"},
	},
	{
		"a successor begins anew where the stream keeps what is done", "a pool that got another name carries on",
		"internal/bus/takeover.go", "from: info.AckFloor.Stream + 1}", "from: 1}", []string{"./internal/app", "-run", "Successor"},
	},
	{
		"a successor leaves jobs to nobody", "a pool that got another name carries on",
		"internal/bus/takeover.go", "if left := beyond(filters, s.streams.Subjects); len(left) > 0 {", "if left := beyond(filters, s.streams.Subjects); len(left) > 99 {", []string{"./internal/app", "-run", "CannotBeTakenOver"},
	},
	{
		"a successor that stands elsewhere loses what waits", "a pool that got another name carries on",
		"internal/bus/takeover.go", "has != want {", "has > want+99 {", []string{"./internal/app", "-run", "CannotBeTakenOver"},
	},
	{
		"a pool that never was is taken over", "a pool that got another name carries on",
		"internal/bus/takeover.go", "newest.Seq == 0 && errors", "newest.Seq == 1<<63 && errors", []string{"./internal/app", "-run", "CannotBeTakenOver"},
	},
	{
		"due jobs that wait for room are not seen", "an operator sees what became of a job",
		"internal/operate/delayed.go", "return a.named(ctx, stream, bus.SubjectsDue, id, waiting)", "_ = waiting\n\treturn nil, nil",
		[]string{"./internal/operate", "-run", "ThatWaitForRoom"},
	},
	{
		"a set is cancelled in LATER while its members enter", "whatever waits can be cancelled",
		"internal/operate/canceldelayed.go", "\tif isDue(m) {\n", "\tif isDue(m) && m.Sequence == 0 {\n", []string{"./internal/operate", "-run", "ThatWaitForRoom"},
	},
	{
		"a job that nobody took is not final", "an operator sees what became of a job",
		"internal/operate/job.go", "\tif record.Final {\n", "\tif record.Final && m.Sequence <= consumer.Delivered.Stream {\n", []string{"./internal/operate", "-run", "ThatWasCancelledIsFinal"},
	},
	{
		"the message id of a replay can be guessed", "a dead letter is there until its job is made again",
		"internal/bus/letter.go", " + \".\" + strconv.FormatInt(l.Stored.UnixNano(), 36)}", "}", []string{"./internal/operate", "-run", "OutlivesAForgedReplay"},
	},
	{
		"a duplicate of a replay is taken for it", "a dead letter is there until its job is made again",
		"internal/operate/letters.go", "if ack.Duplicate {", "if false {", []string{"./internal/operate", "-run", "OutlivesAForgedReplay"},
	},
	{
		"what the server acts on is read as clients do", "whoever may publish cannot have the jobs of others removed",
		"internal/bus/ask.go", "Header: readHeaders(m.Header)", "Header: func() nats.Header { h, _ := nats.DecodeHeadersMsg(m.Header); return h }()",
		[]string{"./internal/operate", "-run", "WhereTheServerAims"},
	},
	{
		"a schedule is run wherever it aims", "whoever may publish cannot have the jobs of others removed",
		"internal/operate/schedules.go", "if !ok || jobs.CheckSubject(subject) != nil {", "if ok && jobs.CheckSubject(subject) != nil {", []string{"./internal/operate", "-run", "WhereTheServerAims"},
	},
	{
		"a uid that is final is of whoever is called so", "an operator sees what became of a job",
		"internal/operate/timeline.go", "id, !isUID(id), end)", "id, true, end)", []string{"./internal/operate", "-run", "OtherJobsSay"},
	},
	{
		"a letter that stands was replayed", "an operator sees what became of a job",
		"internal/operate/timeline.go", "return s.What == StepReplayed })", "return false })", []string{"./internal/operate", "-run", "OtherJobsSay"},
	},
	{
		"a delayed job without room for being held stays", "whatever waits can be cancelled",
		"internal/operate/canceldelayed.go", "case errors.As(err, new(*jetstream.APIError)), errors.Is(err, nats.ErrMaxPayload):", "case errors.Is(err, nats.ErrMaxPayload) && first == 0:",
		[]string{"./internal/operate", "-run", "KeepsADelayedJob"},
	},
	{
		"forged sequences are believed in a batch", "every stored job is found",
		"internal/bus/lookup.go", "\tif forged {\n", "\tif forged && false {\n", []string{"./internal/operate", "-run", "EveryMemberIsCancelled"},
	},
	{
		"a cancelled job stays in LATER", "a job is cancelled or otherwise final, never both",
		"internal/operate/cancel.go", "a.conn.SweepDue(ctx, a.streams.Stream, &j.Delivery)", "a.conn.SweepDue(ctx, a.streams.Stream)", []string{"./cmd/worker", "-run", "HasLeftLater"},
	},
}
