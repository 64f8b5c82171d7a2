package service

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"rollcall/internal/jobs"
)

// faults collects what is wrong with the settings of one service, each under its variable.
type faults struct {
	name string
	all  []error
}

// want notes a fault of a variable unless ok.
func (f *faults) want(ok bool, word, format string, args ...any) {
	if !ok {
		f.all = append(f.all, fmt.Errorf("%s: "+format, append([]any{Variable(f.name, word)}, args...)...))
	}
}

// none notes an error of a variable, if there is one.
func (f *faults) none(err error, word string) {
	if err != nil {
		f.want(false, word, "%w", err)
	}
}

// Validate returns every fault of the settings of the service with this name and URL,
// joined; each names its variable.
func (c *Config) Validate(name, rawURL string) error {
	f := &faults{name: name}
	c.validateBounds(f)
	_, err := parseSecrets(c.Secret)
	f.none(err, "SECRET")
	_, err = parseToken(c.Token)
	f.none(err, "TOKEN")
	f.want((c.Cert == "") == (c.Key == ""), "CERT", "%s and %s belong together: set both or none", Variable(name, "CERT"), Variable(name, "KEY"))
	for _, s := range c.Subjects {
		f.none(jobs.CheckFilter(s), "SUBJECTS")
	}
	c.validateFormat(f)
	c.validateStatuses(f)
	c.validateOAuth(f)
	c.validateHeaders(f)
	if err := c.validateTarget(f, rawURL); err != nil {
		f.all = append(f.all, err)
	}
	return errors.Join(f.all...)
}

func (c *Config) validateBounds(f *faults) {
	f.want(c.Timeout >= time.Millisecond && c.Timeout <= maxTimeout, "TIMEOUT", "%v is not between 1ms and %v", c.Timeout, maxTimeout)
	f.want(c.Tries >= 1 && c.Tries <= maxTries, "TRIES", "%d is not between 1 and %d", c.Tries, maxTries)
	f.want(c.Concurrency == Auto || c.Concurrency >= 1 && c.Concurrency <= maxConcurrency, "CONCURRENCY", "%d is not between 1 and %d, nor auto", c.Concurrency, maxConcurrency)
	f.want(c.Rate >= 0 && c.Rate <= maxRate, "RATE", "%v is not between 0 and %v requests a second", c.Rate, maxRate)
	f.want(c.MaxReply >= minReplyCap && c.MaxReply <= maxReplyCap, "MAX_REPLY", "%v is not between %d and %v", c.MaxReply, minReplyCap, maxReplyCap)
}

// validateFormat checks what only some formats have.
func (c *Config) validateFormat(f *faults) {
	switch c.Method {
	case http.MethodPost:
	case http.MethodPut, http.MethodPatch, http.MethodGet, http.MethodDelete:
		f.want(c.Format == FormatPlain, "METHOD", "%s is only for the format plain (%s=plain)", c.Method, Variable(f.name, "FORMAT"))
	default:
		f.want(false, "METHOD", "%q is none of POST, PUT, PATCH, GET and DELETE", c.Method)
	}
	if c.Format != FormatBatch {
		return
	}
	const only = "is only for the formats event and plain; a service in the format batch answers for each job"
	f.want(!c.FailIf.isSet(), "FAIL_IF", only)
	f.want(!c.RetryIf.isSet(), "RETRY_IF", only)
	f.want(!c.Keep, "KEEP", only)
}

func (c *Config) validateStatuses(f *faults) {
	for _, pair := range [...]struct {
		a, b  Statuses
		words string
	}{{c.OK, c.Retry, "OK and _RETRY"}, {c.OK, c.Fail, "OK and _FAIL"}, {c.Retry, c.Fail, "RETRY and _FAIL"}} {
		if both := pair.a.shares(pair.b); both != 0 {
			first, _, _ := strings.Cut(pair.words, " ")
			f.want(false, first, "status %d is in %s: keep one", both, "_"+pair.words)
		}
	}
}

func (c *Config) validateOAuth(f *faults) {
	if c.OAuthURL == "" {
		f.want(c.OAuthID == "" && c.OAuthSecret.IsZero() && len(c.OAuthScopes) == 0, "OAUTH_URL", "is missing; it is the token endpoint for %s", Variable(f.name, "OAUTH_ID"))
		return
	}
	u, err := url.Parse(c.OAuthURL)
	f.want(err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Hostname() != "" && u.User == nil && checkLiteral(u.Hostname()) == nil,
		"OAUTH_URL", "is no URL of a token endpoint; write https://login.example/oauth/token")
	f.want(c.OAuthID != "", "OAUTH_ID", "is missing; %s needs it", Variable(f.name, "OAUTH_URL"))
	f.want(!c.OAuthSecret.IsZero(), "OAUTH_SECRET", "is missing; %s needs it", Variable(f.name, "OAUTH_URL"))
	f.want(c.Token.IsZero(), "TOKEN", "and %s are both set: keep one", Variable(f.name, "OAUTH_URL"))
}

func (c *Config) validateHeaders(f *faults) {
	_, err := c.extra(f.name, c.Headers)
	f.none(err, "HEADERS")
}

// validateTarget checks what depends on the URL.
func (c *Config) validateTarget(f *faults, rawURL string) error {
	scheme, holes, err := checkURL(rawURL)
	if err != nil {
		return fmt.Errorf("ROLLCALL_SERVICES: service %s: %w", f.name, err)
	}
	if holes && c.Format == FormatBatch {
		return fmt.Errorf("ROLLCALL_SERVICES: service %s: the URL has a hole, which one request for many jobs cannot fill; set %s to event or plain", f.name, Variable(f.name, "FORMAT"))
	}
	if scheme != "https" {
		f.want(c.CA == "", "CA", "is only for an https:// URL; %s has %s://", f.name, scheme)
		f.want(c.Cert == "", "CERT", "is only for an https:// URL; %s has %s://", f.name, scheme)
	}
	if scheme == "nats" {
		f.want(c.Token.IsZero(), "TOKEN", "is only for HTTP; a service on NATS is guarded by NATS permissions")
		f.want(c.OAuthURL == "", "OAUTH_URL", "is only for HTTP; a service on NATS is guarded by NATS permissions")
		f.want(c.Method == http.MethodPost, "METHOD", "is only for HTTP")
	}
	if scheme == "https" {
		_, err = c.tlsConfig(f.name)
	}
	return err
}

// parseToken reads a bearer token.
func parseToken(token jobs.Secret) (string, error) {
	if strings.ContainsFunc(token.Reveal(), notTokenChar) {
		return "", errors.New("a bearer token has no spaces, line ends or characters beyond ASCII")
	}
	return token.Reveal(), nil
}

func notTokenChar(r rune) bool { return r <= ' ' || r > '~' }

// checkURL checks the URL of a service, and reports its scheme and whether it has holes.
func checkURL(raw string) (scheme string, holes bool, err error) {
	if rest, isNATS := strings.CutPrefix(raw, natsScheme); isNATS {
		s, err := parseSubject(rest)
		return "nats", s.text.holes(), err
	}
	t, err := parseTarget(raw)
	if err != nil {
		return "", false, err
	}
	return t.base.Scheme, t.holes(), nil
}

// parsePlainURL checks a URL of HTTP without holes.
func parsePlainURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return nil, errors.New("the URL cannot be read; write http://host:port/path or nats://subject")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("%q is not a URL with http://, https:// or nats://", u.Redacted())
	case u.Hostname() == "":
		return nil, fmt.Errorf("%q names no host", u.Redacted())
	case !jobs.ValidPort(u.Port()):
		return nil, fmt.Errorf("%q names port %s; ports are 1 to 65535", u.Redacted(), u.Port())
	case u.User != nil:
		return nil, errors.New("the URL holds a user or password, which would be shown in logs; use the _TOKEN variable")
	case u.Fragment != "":
		return nil, fmt.Errorf("%q has a fragment, which is never sent", u.Redacted())
	}
	return u, checkLiteral(u.Hostname())
}

// checkSubject refuses what cannot be published to: wildcards, spaces, empty tokens.
func checkSubject(subject string) error {
	if len(subject) > maxSubject || strings.ContainsFunc(subject, func(r rune) bool { return r <= ' ' || r > '~' || r == '*' || r == '>' }) {
		return fmt.Errorf("nats://%s: a subject has no wildcards, spaces or characters beyond ASCII", subject)
	}
	for token := range strings.SplitSeq(subject, ".") {
		if token == "" {
			return fmt.Errorf("nats://%s is not a subject; write nats://name.of.subject", subject)
		}
	}
	return nil
}
