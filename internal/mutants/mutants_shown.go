package main

// shown are planted bugs of what people see, and of the port that shows it.
var shown = []mutant{
	{
		"replicas that disagree keep quiet", "replicas that disagree about services say so",
		"internal/app/peers.go", `if digest != "" && digest != p.digest {`, `if digest == "never" {`, []string{"./internal/app", "-run", "TestAMix"},
	},
	{
		"a replica keeps to itself who died last", "a stop writes what was held back",
		"internal/telemetry/deaths.go", "		d.silence.Stop()\n		d.speak()\n", "		d.silence.Stop()\n", []string{"./internal/telemetry", "-run", "TestTheLogSaysAtTheEnd"},
	},
	{
		"the log of deaths is not closed", "nothing is held back when a replica ends",
		"internal/app/replica.go", "	defer r.seen.log.Close()\n", "", []string{"./internal/app", "-run", "TestAReplicaSaysAtItsEnd"},
	},
	{
		"a silence outlives its replica", "nothing is logged once a log is closed",
		"internal/telemetry/deaths.go", "if !d.closed {\n		d.silence", "if true {\n		d.silence", []string{"./internal/telemetry", "-run", "TestTheLogSaysAtTheEnd"},
	},
	{
		"a busy collector is given up", "spans that a collector may take later are sent again",
		"internal/telemetry/otlp/client.go", `return r.passing()`, `return r.passing() && false`, []string{"./internal/telemetry/otlp", "-run", "TestACollectorThatIsBusy"},
	},
	{
		"a collector that refuses is asked again", "what a collector will never take is sent once",
		"internal/telemetry/otlp/client.go", `return r.passing()`, `return r.passing() || true`, []string{"./internal/telemetry/otlp", "-run", "TestACollectorThatRefuses"},
	},
	{
		"Retry-After of a collector is ignored", "a collector says when to come back",
		"internal/telemetry/otlp/client.go", `pause = max(pause, pauses.Next())`, `pause = min(pause, 1) + pauses.Next()`, []string{"./internal/telemetry/otlp", "-run", "TestACollectorThatIsBusy"},
	},
	{
		"an error shows a header of the collector", "secrets stand in no error",
		"internal/telemetry/otlp/client.go", `jobs.Mask(text, c.masked)`, `jobs.Mask(text, nil)`, []string{"./internal/telemetry/otlp", "-run", "TestACollectorThatRefuses"},
	},
	{
		"spans that a collector drops are taken for taken", "an error says what was lost",
		"internal/telemetry/otlp/client.go", `isProtobuf(reply.Header) && n > 0`, `n < 0`, []string{"./internal/telemetry/otlp", "-run", "TestWhatACollectorSays"},
	},
	{
		"an export has no end", "an export ends at its timeout",
		"internal/telemetry/otlp/client.go", `context.WithTimeout(ctx, c.timeout)`, `context.WithCancel(ctx)`, []string{"./internal/telemetry/otlp", "-run", "TestAnUploadEnds"},
	},
	{
		"spans go to the root of a collector", "an endpoint for all signals is where paths begin",
		"internal/telemetry/otlp/settings.go", `u = u.JoinPath(tracesPath)`, `u = u.JoinPath()`, []string{"./internal/telemetry/otlp", "-run", "TestEndpoints"},
	},
	{
		"a collector leads the exporter elsewhere", "our headers go where the settings say",
		"internal/telemetry/otlp/client.go", `, CheckRedirect: stay`, ``, []string{"./internal/telemetry/otlp", "-run", "TestRedirects"},
	},
	{
		"an export outlives its client", "a stop ends an export",
		"internal/telemetry/otlp/client.go", `	c.end()
`, `	_ = c.end
`, []string{"./internal/telemetry/otlp", "-run", "TestAnUploadEnds"},
	},
	{
		"an error shows the query of the collector", "keys stand in no error",
		"internal/telemetry/otlp/client.go", `fmt.Errorf("post spans: %w", u.Err)`, `fmt.Errorf("post spans: %w", u)`, []string{"./internal/telemetry/otlp", "-run", "TestAnErrorDoesNotShow"},
	},
	{
		"a long pause holds an export up", "what cannot be waited for is not",
		"internal/telemetry/otlp/client.go", `time.Until(by) < pause || `, `time.Until(by) < 0 || `, []string{"./internal/telemetry/otlp", "-run", "TestAnUploadEnds"},
	},
	{
		"a line break of a mounted file is part of a setting", "settings are read as others read them",
		"internal/telemetry/otlp/settings.go", `		value = strings.TrimSpace(getenv(variable))`, `		value = getenv(variable)`, []string{"./internal/telemetry/otlp", "-run", "TestWhiteSpace"},
	},
	{
		"a short secret uncovers a long one", "a secret is hidden whole",
		"internal/jobs/mask.go", `return len(b) - len(a)`, `return 0`, []string{"./internal/telemetry/otlp", "-run", "TestErrorsHide"},
	},
	{
		"traces speak after their end", "nothing is logged once a replica has ended",
		"internal/telemetry/tracing.go", `	e.closed = true
`, ``, []string{"./internal/telemetry", "-run", "TestNothingOfAnExport"},
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
		"the page is served beside health and metrics though it has a port of its own", "what names jobs is served only where it should be",
		"internal/web/server.go", "c.Addr, false, signals(p, metrics)}", "c.Addr, false, Everything(p, metrics, v)}", []string{"./internal/web", "./internal/app", "-run", "EachPath|OfItsOwn"},
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
		"internal/operate/erase.go", "stream.SecureDeleteMsg(ctx, seq)", "stream.DeleteMsg(ctx, seq)", erased,
	},
	{
		"an erased member stays in the event of its set", "what was erased is named nowhere",
		"internal/operate/redact.go", "json.Marshal(f.WithoutTexts())", "json.Marshal(f)", erased,
	},
	{
		"an erased member stays in the tally of its set", "what was erased is named nowhere",
		"internal/ledger/erase.go", "if f := &tally.Failed[i]; named(f) {", "if f := &tally.Failed[i]; named(f) && false {", erased,
	},
	{
		"a member that is cancelled to be erased is named by its set", "what was erased is named nowhere",
		"internal/operate/cancel.go", "j.ID = j.UID // what", "_ = j.UID // what", erased,
	},
	{
		"a dead letter outlives the erasure of its job", "what was erased is named nowhere",
		"internal/operate/erase.go", "if e.uids[uid] || id == e.id {", "if e.uids[uid] {", erased,
	},
	{
		"an erasure overwrites what a replica counts", "each member of a set is counted once",
		"internal/ledger/erase.go", "if errors.Is(err, ErrStale) || errors.Is(err, ErrBusy) {", "if errors.Is(err, ErrRefused) {", ledgerPkg,
	},
	{
		"the error of a call outlives the erasure of its job", "what was erased is named nowhere",
		"internal/operate/redact.go", "j.Services[report.Name] != jobs.StatusOK.String()", "false", asked,
	},
	{
		"an erasure that was cut short leaves the job", "what was erased is named nowhere",
		"internal/operate/erase.go", "return a.eraseEnded(ctx, e, done)", "return nil", asked,
	},
	{
		"an event is removed that may not be published anew", "an erasure loses nobody's record",
		"internal/operate/erase.go", "if err := a.mayPublish(ctx, m.Subject); err != nil {", "if err := error(nil); err != nil {", asked,
	},
	{
		"a job made of an erased dead letter stays", "what was erased is named nowhere",
		"internal/operate/erase.go", "return e.replays, a.openReplays(ctx, e)", "return nil, a.openReplays(ctx, e)", erased,
	},
	{
		"an erasure takes its mates out of the archive", "an erasure loses nobody's record",
		"internal/operate/erasearchive.go", "if err := a.archiveAnew(ctx, m, e.uids); err != nil {", "if err := error(nil); err != nil {", []string{"./cmd/worker", "-run", "Archived"},
	},
	{
		"a denial ends no wait", "a missing right is named",
		"internal/bus/denials.go", "h.end(fmt.Errorf(", "_ = error(fmt.Errorf(", []string{"./cmd/worker", "-run", "EveryCommand"},
	},
	{
		"an export goes on against a certificate that is unknown", "the log says what is wrong at once",
		"internal/telemetry/otlp/client.go", "return !unknown", "return !unknown || true", []string{"./internal/telemetry/otlp", "-run", "TestACollectorBehindTLS"},
	},
	{
		"an export that is cut off forgets what it met before", "the log says what is wrong",
		"internal/telemetry/otlp/client.go", "if failure == nil || ctx.Err() == nil {", "if true {", []string{"./internal/telemetry/otlp", "-run", "TestAnUploadEnds"},
	},
	{
		"a service without a name hides the faults of the others", "all faults are reported at once",
		"internal/service/services.go", "return refs, errors.Join(faults...)", "if len(faults) > 0 {\n		return nil, errors.Join(faults...)\n	}\n	return refs, nil", []string{"./internal/app", "-run", "ABrokenServiceHides"},
	},
	{
		"the doctor takes a full DONE for a queue", "what a full stream does is told as it is",
		"internal/operate/doctor_room.go", "	case ours:", "	case ours && cfg.Name != d.Streams.Stream:", []string{"./internal/app", "-run", "DoctorNamesStreams"},
	},
	{
		"a replica is said to create what it may not", "a missing right is named",
		"internal/operate/doctor.go", "if d.Streams.Ensure && admin.MayCreate(ctx, diff.Object) {", "if d.Streams.Ensure {", []string{"./internal/app", "-run", "DoctorKnowsWho"},
	},
	{
		"the doctor overlooks that a pool was renamed", "what a replica would refuse is said before it starts",
		"internal/operate/doctor.go", "errors.Is(err, bus.ErrTakeOver) {", "errors.Is(err, bus.ErrTakeOver) && false {", []string{"./internal/app", "-run", "ARenamedPool"},
	},
	{
		"a service that answers is to be started", "a remedy fits what was found",
		"internal/operate/doctor.go", "case called && f.Code != 0:", "case called && f.Code < 0:", []string{"./internal/app", "-run", "DoctorSaysWhatToDo"},
	},
	{
		"commands act on the subjects of whoever gives them", "a pool acts on its own jobs",
		"internal/operate/admin.go", "bus.Filters(&consumer.Config)", "append(bus.Filters(&consumer.Config), a.streams.Subjects...)", []string{"./internal/operate", "-run", "APoolActsOnItsOwn"},
	},
	{
		"a pool that does not exist has jobs", "a pool acts on its own jobs",
		"internal/operate/admin.go", "	pool.streams.Subjects = nil\n", "", []string{"./internal/operate", "-run", "APoolThatDoesNotExist"},
	},
	{
		"a set of a pool that does not exist is cancelled", "a pool acts on its own jobs",
		"internal/operate/cancelset.go", "	pool, err := a.asItStands(ctx)\n	if err != nil {", "	pool, err := a, error(nil)\n	if err != nil {", []string{"./internal/operate", "-run", "APoolThatDoesNotExist"},
	},
	{
		"a schedule is cancelled with a set", "a schedule is no job",
		"internal/operate/delayed.go", "strings.HasPrefix(m.Header.Get(bus.HeaderSchedule), bus.Once))", "true)", []string{"./internal/operate", "-run", "AScheduleIsNoJob"},
	},
	{
		"a wildcard removes some schedule", "a schedule is known by its name",
		"internal/operate/schedules.go", "if jobs.CheckSubject(bus.ScheduleSubject(name)) != nil {", "if false {", []string{"./internal/operate", "-run", "AScheduleIsNoJob"},
	},
	{
		"a delayed job loses the id of its producer", "a CloudEvent keeps its id",
		"internal/operate/posting.go", `given == "" || given == id {`, `given == "" || true {`, []string{"./internal/operate", "-run", "ADelayedJobKeeps"},
	},
	{
		"what was published before a fault is not waited for", "each job that was published has its outcome printed",
		"internal/operate/awaiter.go", "	if published == 0 {", "	if err != nil {", []string{"./cmd/worker", "-run", "AFaultInTheMiddle"},
	},
	{
		"an empty flag counts as none", "an unset variable of a script changes nothing in silence",
		"cmd/worker/root.go", `f.DefValue == ""`, `f.DefValue != ""`, []string{"./cmd/worker", "-run", "AnEmptyFlag"},
	},
	{
		"the zero time is no deadline", "a deadline that is over is over",
		"internal/jobs/header.go", "	if t.IsZero() {", "	if false {", []string{"./internal/jobs", "-run", "TheZeroTime"},
	},
	{
		"a pool that is refused leaves a consumer", "a refusal changes nothing",
		"internal/bus/setup.go", "isConsumer && Refusal(drift) != nil {", "isConsumer && false {", []string{"./internal/bus", "-run", "SubjectsThatItsStreamLacks"},
	},
	{
		"a pool is told to take the subjects of others", "a remedy harms nobody else",
		"internal/bus/fix.go", "want = union(have, want)", "_ = union", []string{"./internal/bus", "-run", "SubjectsThatItsStreamLacks"},
	},
	{
		"a denied subject is a slow service", "a mistake in the settings is nobody's job",
		"internal/service/nats.go", "case err != nil && ctx.Err() == nil && heeding.Err() != nil:", "case false:", []string{"./internal/service", "-run", "ADeniedSubject"},
	},
	{
		"a setup gives up when nobody listens yet", "a pool starts at a leaf node that has just been connected",
		"internal/app/setup.go", "time.Since(begun) < setupTry", "time.Since(begun) < 0", []string{"./internal/app", "-run", "ASetupWaits"},
	},
	{
		"a setup waits for the answer to its first request", "a pool starts beside a cluster without a leader",
		"internal/app/setup.go", "context.WithTimeout(ctx, setupTry)", "context.WithTimeout(ctx, setupTimeout)", []string{"./internal/app", "-run", "NobodyAnswers"},
	},
	{
		"dead letters of every set are chosen", "a filter chooses what it says",
		"internal/operate/letters.go", `(f.Set == "" || f.Set == l.Set)`, `(f.Set == "" || l.Set != "")`, []string{"./internal/operate", "-run", "LettersAreFiltered"},
	},
	{
		"a hole reads no JSON under a content type that says otherwise", "a hole is filled if the job has it",
		"internal/service/template.go", "j.Format != jobs.FormatJSON && !jobs.ValidJSON(j.Body)", "j.Format != jobs.FormatJSON", []string{"./internal/service", "-run", "AHoleLooks"},
	},
	{
		"a push consumer cannot be looked up", "what would lose jobs is refused, and says how to end it",
		"internal/bus/consumer.go", "if !errors.Is(err, jetstream.ErrNotPullConsumer) {", "if true {", []string{"./internal/bus", "-run", "WhatWouldLose"},
	},
	{
		"a delay counts from this machine's clock", "relative times go by the broker's clock",
		"internal/operate/posting.go", "bus.OnceAt(now.Add(p.Delay))", "bus.OnceAt(time.Now().Add(p.Delay))", asked,
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
