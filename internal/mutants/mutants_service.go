package main

// ofService are planted bugs of what speaks to services.
var ofService = []mutant{
	{
		"headers wait for a body that is not sent", "a request without a body leaves at once",
		"internal/service/http.go", "tr.got(info, len(body))", "tr.got(info, len(r.call.Body))", []string{"./internal/service", "-run", "TestMethodsWithoutABody"},
	},
	{
		"a connection sends the headers before last", "each request arrives as it is",
		"internal/service/direct.go", "c.held[:0], body", "c.held, body", []string{"./internal/service", "-run", "TestBodiesOfAnyLength"},
	},
	{
		"the data of a reply stays in memory that is used again", "an event holds what the service said",
		"internal/service/replyfast.go", "bytes.Clone(value)", "bytes.TrimSpace(value)", []string{"./internal/service", "-run", "TestNothingOfAReply"},
	},
	{
		"a text with escapes is taken as it stands", "entries are read as encoding/json reads them",
		"internal/service/replyfast.go", `value[0] != '"' || bytes.IndexByte(value, '\\') >= 0`, `value[0] != '"'`, []string{"./internal/service", "-run", "FuzzPlainEntry"},
	},
	{
		"a job that fails every probe is never at its end", "a job that fails while others are answered burns its attempts",
		"internal/service/run.go", "!c.breaker.IsClosed() && !c.life.shown(sent)", "!c.breaker.IsClosed()", service,
	},
	{
		"a job not listed in results counts as ok", "a job is done when every required service said so",
		"internal/service/sheet.go", "if dialect == dialectFailures {\n\t\ts.restIsOK()", "if true {\n\t\ts.restIsOK()", service,
	},
	{
		"a reply that ends behind its headers is a success", "a job is done when every required service said so",
		"internal/service/http.go", "case len(body) == 0 && batch && endsByClosing(resp):", "case false:", []string{"./internal/service", "-run", "TestFaultsOfTheWire"},
	},
	{
		"secrets stand in what a condition quotes", "no secret is shown",
		"internal/service/reading.go", "r.cfg.FailIf.says(hide(string(body), known()...))", "r.cfg.FailIf.says(string(body))", []string{"./internal/service", "-run", "SendsBackOurSecrets"},
	},
	{
		"secrets stand in the error of a job", "no secret is shown",
		"internal/service/sheet.go", "jobs.Mask(e.Error, s.masked)", "e.Error", []string{"./internal/service", "-run", "SendsBackOurSecrets"},
	},
	{
		"half of a secret stands in the error of a job", "no secret is shown",
		"internal/service/sheet.go", "jobs.Clip(jobs.Mask(e.Error, s.masked), maxErrorText)", "jobs.Mask(jobs.Clip(e.Error, maxErrorText), s.masked)", []string{"./internal/service", "-run", "SendsBackOurSecrets"},
	},
	{
		"a part that is refused for good is not halved", "one job costs its mates log₂ attempts",
		"internal/service/split.go", "len(list) == 1 || ctx.Err() != nil", "true", []string{"./internal/service", "-run", "RefusesFailsAlone"},
	},
	{
		"a broker that is away burns attempts", "only an answer about the job burns an attempt",
		"internal/service/nats.go", "errors.Is(err, nats.ErrReconnectBufExceeded) || ", "", []string{"./internal/service", "-run", "WhatNATSDoesNotSend"},
	},
	{
		"a pool is its own service", "what would lose or fake jobs is refused at the start",
		"internal/bus/ownevents.go", "if own := meets(taken, filter); own != \"\" {", "if own := meets(taken, filter); false {", []string{"./internal/app", "-run", "IsNotItsOwnService"},
	},
	{
		"the error of a stream passes for an answer", "a job is done when every required service said so",
		"internal/service/nats.go", "code = notStored(msg.Data)", "_ = notStored(msg.Data)", []string{"./internal/service", "-run", "TestAStreamThat"},
	},
	{
		"a job that just fits a message fails for good", "no job fails but by an answer about it",
		"internal/service/nats.go", "return len(call.Jobs) == 1 && r.", "return len(call.Jobs) < 0 && r.", []string{"./internal/service", "-run", "JustFits"},
	},
	{
		"a 429 to one part frees the jobs of another", "only an answer about the job burns an attempt",
		"internal/service/split.go", "a.Free == b.Free && a.Reason == b.Reason", "true", []string{"./internal/service", "-run", "EachPartThatFails"},
	},
	{
		"poison under a status that may be retried is not looked for", "one job costs its mates log₂ attempts",
		"internal/jobs/call.go", "return !f.Final && !f.Free", "return false", []string{"./internal/jobs", "-run", "InHalves"},
	},
	{
		"attributes beyond the limit are left out at random", "a job has the same source and id at each attempt",
		"internal/jobs/header.go", "len(h.attributes) >= maxAttributes+everyEvent && !named {", "len(h.attributes) >= maxAttributes && !named {", []string{"./internal/jobs", "-run", "TooManyAttributes"},
	},
	{
		"the id of an event is left out beyond the limit", "a job has the same source and id at each attempt",
		"internal/jobs/header.go", "maxAttributes+everyEvent && !named {", "maxAttributes+everyEvent && (true || named) {", []string{"./internal/jobs", "-run", "TooManyAttributes"},
	},
	{
		"a 4xx of all batches does not open the breaker", "an outage costs no job",
		"internal/service/run.go", "return p.batch", "return false", []string{"./internal/service", "-run", "TripsTheBreakerOfBatches"},
	},
	{
		"services named in a second header are not called", "a job goes to the services that take it",
		"internal/jobs/header.go", "canonical == HeaderServices && len(values) > 1", "false", []string{"./internal/jobs", "-run", "SeveralHeaders"},
	},
	{
		"events do not say what a service of single requests answered", "an operator sees what became of a job",
		"internal/pool/fanout.go", "c.note(result.Tries, c.failedRequest(result.Replies))", "c.note(result.Tries, \"\")", []string{"./internal/app", "-run", "ServiceThatExists"},
	},
	{
		"jobs that core mode loses are not counted", "what is lost is counted",
		"internal/bus/core.go", "\ts.lost.Add(1)\n\treturn nil\n", "\treturn nil\n", []string{"./internal/bus", "-run", "CoreSourceCounts"},
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
		"an id that two jobs share settles one of them", "an id that two jobs share settles neither",
		"internal/service/sheet.go", "if _, taken := s.byID[j.ID]; taken {", "if false {", []string{"./internal/service", "-run", "TestAnIDThatTwoJobsShare"},
	},
	{
		"entries of a reply are not counted while reading", "memory is bounded",
		"internal/service/sheet.go", "if n == len(s.jobs) {", "if false {", []string{"./internal/service", "-run", "ManySmallEntries"},
	},
	{
		"a date in Retry-After goes by the clock of the machine", "a pause is as long as the service asked for",
		"internal/service/http.go", "		return at\n", "		_ = at\n", []string{"./internal/service", "-run", "RetryAfterGoesBy"},
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
		"internal/service/http.go", "(isReset(err) || tr.unwritten())", "(false || tr.unwritten())", service,
	},
	{
		"a call that is cut waits for its turn", "SIGTERM drains within the deadline",
		"internal/service/each.go", "func() { s.line.leave(&e) }", "func() {}", []string{"./internal/service", "-run", "ACutCall"},
	},
	{
		"a service that switches protocols holds a call for ever", "one slow service never delays others for ever",
		"internal/service/http.go", "resp.StatusCode == http.StatusSwitchingProtocols", "resp.StatusCode == 0", []string{"./internal/service", "-run", "TestFaultsOfTheWire", "-timeout", "60s"},
	},
	{
		"the key of a job changes with its batch", "a request for a job has the same key at every attempt",
		"internal/service/each.go", "j.JobKey(e.service.name)", "j.JobKey(e.service.name+e.call.BatchID)", service,
	},
	{
		"an answer of a service's own is unreadable", "a success is not called again",
		"internal/service/reply.go", "case dialect == \"\":\n\t\treturn d.ok(len(call.Jobs)), nil", "case dialect == \"\":\n\t\treturn nil, unreadable(\"no dialect\")", service,
	},
	{
		"the check takes a refused repetition for fine", "the check names what would turn done jobs into dead letters",
		"internal/service/conformcases.go", "\tcase hasFailed(a):\n\t\tc.note(check, sent, a, Wrong, \"jobs that are done", "\tcase false:\n\t\tc.note(check, sent, a, Wrong, \"jobs that are done", service,
	},
	{
		"the check takes any refusal of a signature for fine", "the check names what would turn a wrong secret into dead letters",
		"internal/service/conformcases.go", "case f != nil && f.Misconfigured:\n\t\tc.note(check, sent, a, Good, \"\")\n\tcase f == nil && !hasFailed(a):", "case f != nil:\n\t\tc.note(check, sent, a, Good, \"\")\n\tcase f == nil && !hasFailed(a):", service,
	},
	{
		"a permit is not given back", "a slow service costs no more than its own calls",
		"internal/service/run.go", "\tdefer release()\n", "\t_ = release\n", []string{"./internal/service", "-run", "BreakerIsNotClosed", "-timeout", "60s"},
	},
	{
		"a call is tried once more than it may be", "a service is not called more often than the settings say",
		"internal/service/run.go", "n >= c.most", "n > c.most", service,
	},
	{
		"the breaker sees no failure", "a broken service is left alone",
		"internal/service/run.go", "\t\tc.breaker.RecordFailure()\n", "\t\tc.breaker.RecordSuccess()\n", service,
	},
	{
		"a reply that comes with the time-out counts", "a time-out burns an attempt",
		"internal/service/run.go", "if !clock.Stop() {", "if !clock.Stop() && replies == nil {", service,
	},
	{
		"an empty reply of HTTP/1.0 is a broken one", "a job is done when every required service said so",
		"internal/service/http.go", "resp.ProtoMinor == 1", "resp.ProtoMinor >= 0", []string{"./internal/service", "-run", "TestAnEmptyReply"},
	},
	{
		"a reply in gzip that never began is a success", "a job is done when every required service said so",
		"internal/service/gzip.go", "errors.Is(b.err, io.EOF)", "errors.Is(b.err, io.ErrClosedPipe)", []string{"./internal/service", "-run", "TestFaultsOfTheWire"},
	},
	{
		"a token that has ended already is taken", "what is wrong in the settings is named",
		"internal/service/oauth.go", "case !token.Expiry.IsZero() && ", "case false && ", []string{"./internal/service", "-run", "TestATokenThatCannotBeUsed"},
	},
	{
		"a request of which nothing has left is a failure", "a success is not called again, an attempt not burnt for nothing",
		"internal/service/http.go", "(isReset(err) || tr.unwritten())", "isReset(err)", []string{"./internal/service", "-run", "ClosedBeforeTheRequest"},
	},
	{
		"a GET is repeated on every connection that is kept", "a service is not called more often than the settings say",
		"internal/service/http.go", "t.cfg.Method == http.MethodGet", "false", []string{"./internal/service", "-run", "TestOneTryIsOneRequest"},
	},
	{
		"a key with escapes is none of a dialect", "a job is done when every required service said so",
		"internal/service/reply.go", "return jobs.SameName(quoted, key)", "return string(quoted[1:len(quoted)-1]) == key", []string{"./internal/service", "-run", "TestDecodeDialects"},
	},
	{
		"a call without TLS to a port that wants it kills jobs", "a mistake in the settings is nobody's job",
		"internal/service/status.go", "r.plain && code", "false && code", []string{"./internal/service", "-run", "TestAPortThatWantsTLS"},
	},
	{
		"waiting for a stream counts as sent", "an attempt is not burnt for nothing",
		"internal/service/http.go", "\ttr.begun.Store(false)\n", "\ttr.begun.Store(true)\n", []string{"./internal/service", "-run", "TestARequestThatWaitsForAStream"},
	},
}
