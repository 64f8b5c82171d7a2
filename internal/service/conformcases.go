package service

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"

	"rollcall/internal/jobs"
)

// all makes every request of a check.
func (c *conformance) all(ctx context.Context) {
	if c.service.Batched() && !c.empty(ctx) {
		return
	}
	if !c.typical(ctx) {
		return
	}
	for _, check := range [...]func(context.Context){
		c.repeated, c.cutOff, c.sameID, c.oddIDs, c.poison, c.large, c.signature, c.token,
	} {
		if ctx.Err() != nil {
			return
		}
		check(ctx)
	}
	c.pace()
}

// empty sends a batch without jobs. It reports whether to go on.
func (c *conformance) empty(ctx context.Context) bool {
	a := c.ask(ctx, c.call())
	f := a.failure
	switch sent := "a batch without jobs"; {
	case f == nil:
		c.note("empty batch", sent, a, Good, "")
	case f.Final:
		c.note("empty batch", sent, a, Good, "no pool sends one; 'worker doctor' does, and accepts this")
	case f.Misconfigured || unsent(f):
		c.note("empty batch", sent, a, Wrong, "nothing more was sent: the rest would go the same way")
		return false
	default:
		c.note("empty batch", sent, a, Doubtful, "no pool sends one; 'worker doctor' does, and takes this for an error")
	}
	return true
}

// typical sends the sample as it is. It reports whether to go on.
func (c *conformance) typical(ctx context.Context) bool {
	list := c.jobs("sample-1", "sample-2", "sample-3")
	sent := "the sample, " + counted(len(list))
	a := c.ask(ctx, c.call(list...))
	c.usual = a
	switch f := a.failure; {
	case a.allOK():
		c.note("sample", sent, a, Good, "")
	case f == nil || f.Final && f.Reason != jobs.ReasonHole:
		c.note("sample", sent, a, Doubtful, "the service does not take this job: give one that it takes by --data, --header and --subject, and the rest says more")
	case f.Final:
		c.note("sample", sent, a, Wrong, "give a job that fills the holes, by --data, --header and --subject; nothing was sent")
		return false
	case f.Reason == jobs.ReasonBadResponse:
		c.note("sample", sent, a, Wrong, "answer an empty 2xx, JSON of your own, or one of the three dialects for the jobs of the request; nothing more was sent")
		return false
	default:
		c.note("sample", sent, a, Wrong, "nothing more was sent: the rest would go the same way")
		return false
	}
	return true
}

// done judges a reply to jobs that the service has had before.
func (c *conformance) done(check, sent string, a answered) {
	switch {
	case c.asUsual(a):
		c.note(check, sent, a, Good, "")
	case a.failure != nil && a.failure.Misconfigured:
		c.note(check, sent, a, Wrong, "a repeated job must not look like wrong settings: answer ok for what is done")
	case hasFailed(a):
		c.note(check, sent, a, Wrong, "jobs that are done would be dead-lettered: answer ok for what is done (source and id name the job)")
	default:
		c.note(check, sent, a, Doubtful, "jobs that are done come back until their attempts are used up: answer ok for what is done")
	}
}

func hasFailed(a answered) bool {
	for _, s := range a.statuses() {
		if s == jobs.StatusFail {
			return true
		}
	}
	return false
}

// repeated sends what was sent before: the same request, and the same jobs in their next attempt.
func (c *conformance) repeated(ctx context.Context) {
	c.done("same request again", "the sample again, with the same Idempotency-Key, as after a lost reply", c.ask(ctx, c.usual.call))
	list := make([]*jobs.Job, len(c.usual.call.Jobs))
	for i, j := range c.usual.call.Jobs {
		next := *j
		next.Record.Attempts = 1
		list[i] = &next
	}
	sent := "the same jobs in another batch, attempt 2"
	if !c.service.Batched() {
		sent = "the same job, attempt 2, with the same Idempotency-Key"
	}
	c.done("second attempt", sent, c.ask(ctx, c.call(list...)))
}

// cutOff gives a request up half way, and sends it again.
func (c *conformance) cutOff(ctx context.Context) {
	call := c.call(c.jobs("slow-1", "slow-2")...)
	within := max(c.usual.took/2, time.Millisecond)
	c.askBy(ctx, c.service, call, within, 0)
	c.done("slow reply", fmt.Sprintf("a request given up after %v, as at %s, then sent again", within.Round(100*time.Microsecond), Variable(c.ref.Name, "TIMEOUT")), c.ask(ctx, call))
}

// sameID sends jobs that share an id: as a later job, and two in one batch.
func (c *conformance) sameID(ctx context.Context) {
	a := c.ask(ctx, c.call(c.jobs("sample-1")...))
	const advice = "a service that remembers source and id takes it for done and skips it: " +
		"where producers use ids again, remember rollcalluid (Rollcall-Uid) instead"
	if c.asUsual(a) {
		c.note("id used again", "another job with the id of the sample and a rollcalluid of its own", a, Doubtful, advice)
	} else {
		c.done("id used again", "another job with the id of the sample and a rollcalluid of its own", a)
	}
	if c.most() < 2 {
		return
	}
	a = c.ask(ctx, c.call(c.jobs("twin", "twin")...))
	sent := "two jobs with one id in a batch"
	switch {
	case c.asUsual(a):
		c.note("two jobs, one id", sent, a, Good, "")
	case a.failure == nil:
		c.note("two jobs, one id", sent, a, Doubtful, "such jobs cost a request each; answer with their rollcalluid and they do not")
	default:
		c.note("two jobs, one id", sent, a, Wrong, "producers may use an id twice: answer for each job, best by its rollcalluid")
	}
}

// oddIDs sends ids as producers may choose them.
func (c *conformance) oddIDs(ctx context.Context) {
	odd := []string{"ü / \"%\\ 100%", "1e3", "." + strings.Repeat("x", 200)}
	for ids := range slices.Chunk(odd, min(c.most(), len(odd))) {
		a := c.ask(ctx, c.call(c.jobs(ids...)...))
		sent := fmt.Sprintf("unusual ids, such as %q", jobs.Clip(ids[0], 40))
		switch {
		case c.asUsual(a):
			c.note("unusual ids", sent, a, Good, "")
		case a.failure != nil && a.failure.Reason == jobs.ReasonBadResponse:
			c.note("unusual ids", sent, a, Wrong, "the reply must name the ids of the request, character by character, and no others")
		default:
			c.note("unusual ids", sent, a, Doubtful, "ids are any text; these are treated otherwise than usual ones")
		}
	}
}

// junk is what no service expects: no JSON, no text.
var junk = []byte("\x00\xff{\"not\": what you expect")

// poison sends a job that the service cannot want, beside others.
func (c *conformance) poison(ctx context.Context) {
	if !c.cfg.sendsBody() {
		return
	}
	list := c.jobs("beside-1", "beside-2", "beside-3")
	at := len(list) / 2
	list[at] = c.job("poison", junk)
	sent := "a job whose body is neither JSON nor text"
	if len(list) > 1 {
		sent += ", between two of the sample"
	}
	a := c.ask(ctx, c.call(list...))
	grade, advice := c.gradePoison(a, at)
	c.note("poison job", sent, a, grade, advice)
}

func (c *conformance) gradePoison(a answered, at int) (Grade, string) {
	f := a.failure
	switch {
	case f != nil && f.Reason == jobs.ReasonHole:
		return Good, ""
	case f != nil && f.Misconfigured:
		return Wrong, "one bad job would hold up all others: answer 400 or 422, or list it as fail"
	case f != nil && f.Final && len(a.call.Jobs) > 1:
		return Doubtful, "the others are sent again in smaller requests; list the bad job as fail and they are not"
	case f != nil && f.Final:
		return Good, ""
	case f != nil && len(a.call.Jobs) > 1:
		return Doubtful, "a bad job costs its whole batch attempts until halving has found it: list it as fail"
	case f != nil:
		return Doubtful, "a bad job comes back until its attempts are used up: answer 400 or 422"
	}
	for i, r := range a.replies {
		if i != at && r.Status != c.usual.statuses()[0] {
			return Wrong, "a bad job must not change what becomes of others"
		}
	}
	switch a.replies[at].Status {
	case jobs.StatusFail:
		return Good, ""
	case jobs.StatusOK:
		return Doubtful, "the service takes any bytes for a job that is done; is that meant?"
	default:
		return Doubtful, "a bad job comes back until its attempts are used up: list it as fail"
	}
}

// maxLarge bounds the body of a single large job: the usual max payload of a NATS server.
const maxLarge = jobs.MiB - 64*jobs.KiB

// large sends as much as a pool may send at once. The sample is padded by blanks, which change
// nothing in JSON.
func (c *conformance) large(ctx context.Context) {
	if !c.cfg.sendsBody() {
		return
	}
	n, size := c.most(), c.sample.BatchBytes
	if !c.service.Batched() {
		size = min(size, maxLarge)
	}
	call := c.full(n, size)
	for !c.service.transport.fits(call) && size > jobs.KiB { // over NATS it would go in parts
		size /= 2
		call = c.full(n, size)
	}
	a := c.ask(ctx, call)
	sent := fmt.Sprintf("%s, a body of %v", counted(n), jobs.Size(len(call.Body)))
	switch {
	case c.asUsual(a):
		c.note("large body", sent, a, Good, "")
	case c.service.Batched() && a.failure == nil:
		c.note("large body", sent, a, Doubtful, "these jobs are copies of the sample: does their size or number matter to the service?")
	case c.service.Batched():
		c.note("large body", sent, a, Wrong, "a full batch is as large as this: let the service take more, or lower ROLLCALL_BATCH_BYTES and ROLLCALL_BATCH_SIZE")
	default:
		c.note("large body", sent, a, Doubtful, "producers must not publish jobs as large as this, or the service must take them")
	}
}

// full is a request for n jobs with bodies of size bytes altogether.
func (c *conformance) full(n int, size jobs.Size) *jobs.Call {
	padding := max(int(size)/n-len(c.sample.Data), 0)
	data := append(bytes.Clone(c.sample.Data), bytes.Repeat([]byte(" "), padding)...)
	list := make([]*jobs.Job, n)
	for i := range list {
		list[i] = c.job(fmt.Sprintf("large-%d", i+1), data)
	}
	return c.call(list...)
}

// signature sends requests with a wrong signature and with none; without a secret, with one that
// the service cannot know.
func (c *conformance) signature(ctx context.Context) {
	strange := make([]byte, 32)
	_, _ = rand.Read(strange) // never fails: crypto/rand.Read
	wrong := c.cfg
	wrong.Secret = jobs.NewSecret(secretPrefix + base64.StdEncoding.EncodeToString(strange))
	if c.cfg.Secret.IsZero() {
		a := c.askOther(ctx, wrong, "signed")
		sent := "a signature, though " + Variable(c.ref.Name, "SECRET") + " is not set"
		switch {
		case !c.asUsual(a):
			c.note("signature", sent, a, Doubtful, "set "+Variable(c.ref.Name, "SECRET")+" if the service checks signatures")
		case c.cfg.Token.IsZero() && c.cfg.OAuthURL == "" && c.cfg.Headers.IsZero() && c.cfg.Cert == "":
			c.note("signature", sent, a, Good, "the service takes requests of everybody who reaches it; signatures can change that")
		default:
			c.note("signature", sent, a, Good, "")
		}
		return
	}
	c.refused("wrong signature", "the sample, signed with another secret", c.askOther(ctx, wrong, "wrong-signature"))
	wrong.Secret = jobs.Secret{}
	c.refused("no signature", "the sample, not signed", c.askOther(ctx, wrong, "no-signature"))
	c.refused("old signature", "the sample, signed ten minutes ago, as somebody may send it again who has recorded it",
		c.askBy(ctx, c.service, c.call(c.jobs("old-signature")...), c.cfg.Timeout, oldSignature))
}

// oldSignature is twice the tolerance that Standard Webhooks suggests.
const oldSignature = 10 * time.Minute

// token sends a request without the bearer token.
func (c *conformance) token(ctx context.Context) {
	if c.cfg.Token.IsZero() && c.cfg.OAuthURL == "" {
		return
	}
	without := c.cfg
	without.Token = jobs.Secret{}
	without.OAuthURL, without.OAuthID, without.OAuthSecret, without.OAuthScopes = "", "", jobs.Secret{}, nil
	c.refused("no token", "the sample, without "+headerAuthorization, c.askOther(ctx, without, "no-token"))
}

// askOther sends a job like the sample under other settings.
func (c *conformance) askOther(ctx context.Context, cfg Config, id string) answered {
	call := c.call(c.jobs(id)...)
	s, err := New(c.ref.Name, c.ref.URL, cfg, c.deps)
	if err != nil {
		return answered{call: call, failure: &jobs.Failure{Reason: jobs.ReasonOther, Err: err}}
	}
	defer s.Close()
	return c.askBy(ctx, s, call, cfg.Timeout, 0)
}

// refused judges the reply to a request that the service should not have taken.
func (c *conformance) refused(check, sent string, a answered) {
	f := a.failure
	switch {
	case f != nil && f.Misconfigured:
		c.note(check, sent, a, Good, "")
	case f == nil && !hasFailed(a):
		c.note(check, sent, a, Doubtful, "the service takes requests that Rollcall did not send")
	case hasFailed(a):
		c.note(check, sent, a, Wrong, "a wrong secret would turn a backlog into dead letters: answer 401 or 403")
	default:
		c.note(check, sent, a, Doubtful, "a wrong secret would use up the attempts of jobs: answer 401 or 403")
	}
}

// pace compares the slowest reply with the time-out.
func (c *conformance) pace() {
	f := Finding{Check: "time", Grade: Good, Sent: "all of the above", Said: fmt.Sprintf("the slowest reply took %v", c.slowest.Round(100*time.Microsecond)),
		Read: fmt.Sprintf("a request is given up after %v (%s)", c.cfg.Timeout, Variable(c.ref.Name, "TIMEOUT"))}
	if c.slowest > c.cfg.Timeout/2 {
		f.Grade, f.Advice = Doubtful, "that is more than half of it; raise it, or accept the work, do it later, and answer retry until it is done"
	}
	c.findings = append(c.findings, f)
}
