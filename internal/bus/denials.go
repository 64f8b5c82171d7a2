package bus

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// maxDenials bounds what is remembered; a worker needs about twenty rights.
	maxDenials = 64
	// denialLife is how long a denial is remembered that does not repeat itself. The server
	// does not say when a right was given back.
	denialLife = 5 * time.Minute
	// denialRelog is how often the same denial is logged.
	denialRelog = time.Hour
)

// denials remembers what the server refused, by pattern: a denied ack has the sequence of its
// job in its subject, so single subjects would be as many as jobs.
type denials struct {
	seen []denial
	// logged is when a pattern was last logged. It is as bounded as seen.
	logged map[string]time.Time
}

type denial struct {
	what string
	last time.Time
}

// add notes a denial and reports whether the log should have it.
func (d *denials) add(what string, now time.Time) (fresh bool) {
	d.expire(now)
	d.seen = slices.DeleteFunc(d.seen, func(known denial) bool { return known.what == what })
	if len(d.seen) >= maxDenials {
		d.seen = slices.Delete(d.seen, 0, 1)
	}
	d.seen = append(d.seen, denial{what, now})
	if last, known := d.logged[what]; known && now.Sub(last) < denialRelog {
		return false
	}
	if d.logged == nil || len(d.logged) >= maxDenials {
		d.logged = make(map[string]time.Time)
	}
	d.logged[what] = now
	return true
}

func (d *denials) expire(now time.Time) {
	d.seen = slices.DeleteFunc(d.seen, func(known denial) bool { return now.Sub(known.last) > denialLife })
}

// Denied returns what the server refused to let us do lately, each once, oldest first:
// "publish $JS.ACK.JOBS.default.>". A denial looks like a time-out to the one who waits; this
// list names the missing permission.
func (c *Conn) Denied() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.denied.expire(time.Now())
	all := make([]string, len(c.denied.seen))
	for i, d := range c.denied.seen {
		all[i] = d.what
	}
	return all
}

// deniedWithin is [Conn.Denied] as far as it is not older than d.
func (c *Conn) deniedWithin(d time.Duration) (recent []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, known := range c.denied.seen {
		if time.Since(known.last) <= d {
			recent = append(recent, known.what)
		}
	}
	return recent
}

// heed is somebody who waits for the answer to a request.
type heed struct {
	// prefix is what the subject of the request begins with.
	prefix string
	end    context.CancelCauseFunc
}

// Heed returns a context that ends as soon as the server denies this user a request of the
// JetStream API that begins so, for example "STREAM.INFO.JOBS": to the caller that waits for the
// reply, a denial looks like silence. [Refused] then turns the error into the reason. The caller owes a call
// of stop.
func (c *Conn) Heed(ctx context.Context, request string) (heeding context.Context, stop context.CancelFunc) {
	return c.HeedSubject(ctx, c.API(request))
}

// Tolerate declares subjects, by their beginnings, that a caller can do without: a denial of one ends
// only the context of the request itself.
func (c *Conn) Tolerate(prefixes ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, prefix := range prefixes {
		if !slices.Contains(c.tolerated, prefix) {
			c.tolerated = append(c.tolerated, prefix)
		}
	}
}

// HeedSubject is [Conn.Heed] for subjects that begin so; with "" any denial ends the context that
// is not tolerated.
func (c *Conn) HeedSubject(ctx context.Context, prefix string) (heeding context.Context, stop context.CancelFunc) {
	ctx, end := context.WithCancelCause(ctx)
	h := &heed{prefix: prefix, end: end}
	c.mu.Lock()
	c.heeds = append(c.heeds, h)
	c.mu.Unlock()
	return ctx, func() {
		end(nil)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.heeds = slices.DeleteFunc(c.heeds, func(other *heed) bool { return other == h })
	}
}

// Refused returns the denial that ended a context of [Conn.Heed], unless err speaks of one, else err.
// nil stays nil.
func Refused(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); err != nil && !errors.Is(err, ErrDenied) && errors.Is(cause, ErrDenied) {
		return cause
	}
	return err
}

// WasDenied reports whether the server lately refused what, for example
// "publish $JS.API.INFO"; a subject of a kind that is remembered by pattern counts as that.
func (c *Conn) WasDenied(what string) bool {
	verb, subject, _ := strings.Cut(what, " ")
	return slices.Contains(c.Denied(), verb+" "+c.pattern(subject))
}

// denials ends a sentence about something that does not work with what was denied.
func (c *Conn) denials() string {
	if denied := c.Denied(); len(denied) > 0 {
		return "; the server denies this user: " + strings.Join(denied, ", ")
	}
	return ""
}

// pattern returns how a permission would name a subject of which there are many.
func (c *Conn) pattern(subject string) string {
	tokens := strings.Split(subject, ".")
	keep := len(tokens)
	switch {
	case strings.HasPrefix(subject, c.inbox):
		keep = strings.Count(c.inbox, ".")
	case strings.HasPrefix(subject, ackPrefix) && len(tokens) >= 11:
		keep = 6 // $JS.ACK.<domain>.<account>.<stream>.<consumer>
	case strings.HasPrefix(subject, ackPrefix):
		keep = 4
	case strings.HasPrefix(subject, c.api+".CONSUMER.CREATE."): // the name is made up for each
		keep = strings.Count(c.api, ".") + 4
	case strings.HasPrefix(subject, "dead."):
		keep = 2
	case strings.HasPrefix(subject, "done."), strings.HasPrefix(subject, "batches."):
		keep = 3
	}
	if keep >= len(tokens) {
		return subject
	}
	return strings.Join(tokens[:keep], ".") + ".>"
}

// deniedSubject finds the subject in the server's text, the only place where it is named
// (client.go, pubPermissionViolation and subPermissionViolation).
var deniedSubject = regexp.MustCompile(`(?i)(publish|subscription) to "([^"]+)"`)

// DeniedBy returns what a denial is about, as verb and subject; empty if err is none.
func DeniedBy(err error) string {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return ""
	}
	m := deniedSubject.FindStringSubmatch(err.Error())
	if m == nil {
		return ""
	}
	return strings.ToLower(m[1]) + " " + m[2]
}

func (c *Conn) onError(_ *nats.Conn, sub *nats.Subscription, err error) {
	subject := ""
	if sub != nil {
		subject = sub.Subject
	}
	if errors.Is(err, nats.ErrPermissionViolation) {
		verb, denied, _ := strings.Cut(DeniedBy(err), " ")
		if denied == "" {
			denied = subject
		}
		subject = verb + " " + c.pattern(denied)
		c.mu.Lock()
		fresh := c.denied.add(subject, time.Now())
		tolerated := slices.ContainsFunc(c.tolerated, func(prefix string) bool { return strings.HasPrefix(denied, prefix) })
		for _, h := range c.heeds {
			if verb == "publish" && strings.HasPrefix(denied, h.prefix) && (h.prefix != "" || !tolerated) {
				h.end(fmt.Errorf("%w: %s", ErrDenied, subject))
			}
		}
		c.mu.Unlock()
		if verb == "subscription" {
			c.lost(denied)
		}
		if !fresh {
			return
		}
	}
	if errors.Is(err, nats.ErrMaxSubscriptionsExceeded) {
		c.lost("")
	}
	c.log.Error().Err(err).Str("subject", subject).Msg("NATS reports an error")
}
