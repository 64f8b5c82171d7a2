package service

import (
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"

	"rollcall/internal/jobs"
)

// Config is the settings of one service. The variable of a field is
// ROLLCALL_SVC_<NAME>_ and the word in its envconfig tag; [Config.Spec] puts the two
// together for envconfig.
type Config struct {
	Timeout     time.Duration `envconfig:"TIMEOUT" default:"10s" desc:"for one try, from sending to the last byte of the reply"`
	Tries       int           `envconfig:"TRIES" default:"3" desc:"requests per call, 1 to 10; a job that still fails is retried later with its batch"`
	Concurrency Concurrency   `envconfig:"CONCURRENCY" default:"32" desc:"calls at once from one replica, or auto to find the limit of the service"`
	Rate        float64       `envconfig:"RATE" default:"0" desc:"calls per second from one replica; 0 = unlimited"`
	Required    bool          `envconfig:"REQUIRED" default:"true" desc:"false: its replies are reported but never fail a job"`
	Secret      jobs.Secret   `envconfig:"SECRET" desc:"Standard Webhooks secret (whsec_…) that calls are signed with; two, separated by a comma, during a rotation"`
	Token       jobs.Secret   `envconfig:"TOKEN" desc:"bearer token sent with every call"`
	CA          string        `envconfig:"CA" desc:"file with the certificate authorities to trust, instead of the system's"`
	Cert        string        `envconfig:"CERT" desc:"file with the client certificate"`
	Key         string        `envconfig:"KEY" desc:"file with the key of the client certificate"`
	MaxReply    jobs.Size     `envconfig:"MAX_REPLY" default:"1MiB" desc:"longest reply, decoded"`
}

// Bounds of the settings.
const (
	maxTries       = 10
	maxConcurrency = 10_000
	maxTimeout     = time.Hour
	maxRate        = 1e6
	minReplyCap    = 64
	maxReplyCap    = jobs.GiB
)

// Concurrency is how many calls a replica sends to a service at once, or [Auto].
type Concurrency int

// Auto lets an adaptive limiter find the concurrency that a service can bear.
const Auto Concurrency = -1

// UnmarshalText reads a number or the word auto.
func (c *Concurrency) UnmarshalText(text []byte) error {
	word := strings.TrimSpace(string(text))
	if strings.EqualFold(word, "auto") {
		*c = Auto
		return nil
	}
	n, err := strconv.Atoi(word)
	if err != nil || n < 0 {
		return fmt.Errorf("%q is neither a number of calls nor auto", text)
	}
	*c = Concurrency(n)
	return nil
}

// String writes what [Concurrency.UnmarshalText] reads.
func (c Concurrency) String() string {
	if c == Auto {
		return "auto"
	}
	return strconv.Itoa(int(c))
}

// MarshalText implements [encoding.TextMarshaler].
func (c Concurrency) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// Variable returns the full name of a service's variable: Variable("e-mail", "TIMEOUT") is
// ROLLCALL_SVC_E_MAIL_TIMEOUT.
func Variable(name, word string) string {
	return "ROLLCALL_SVC_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_")) + "_" + word
}

// Spec returns a pointer to c under a type whose envconfig tags carry the full variable
// names of the service, so that envconfig.Process("", c.Spec(name)) fills c. Processing c
// itself with a prefix would not do: envconfig then falls back to the bare tag, and TOKEN or
// KEY of an unrelated program would be taken for the service's.
func (c *Config) Spec(name string) any {
	plain := reflect.TypeFor[Config]()
	fields := make([]reflect.StructField, plain.NumField())
	for i := range fields {
		f := plain.Field(i)
		word := f.Tag.Get("envconfig")
		tag := strings.Replace(string(f.Tag), strconv.Quote(word), strconv.Quote(Variable(name, word)), 1)
		fields[i] = reflect.StructField{Name: f.Name, Type: f.Type, Tag: reflect.StructTag(tag)}
	}
	// Types that differ only in their tags convert into each other, pointers too.
	return reflect.ValueOf(c).Convert(reflect.PointerTo(reflect.StructOf(fields))).Interface()
}

// Validate returns every fault of the settings of the service with this name and URL,
// joined; each names its variable.
func (c *Config) Validate(name, rawURL string) error {
	var faults []error
	check := func(ok bool, word, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf("%s: "+format, append([]any{Variable(name, word)}, args...)...))
		}
	}
	check(c.Timeout >= time.Millisecond && c.Timeout <= maxTimeout, "TIMEOUT", "%v is not between 1ms and %v", c.Timeout, maxTimeout)
	check(c.Tries >= 1 && c.Tries <= maxTries, "TRIES", "%d is not between 1 and %d", c.Tries, maxTries)
	check(c.Concurrency == Auto || c.Concurrency >= 1 && c.Concurrency <= maxConcurrency, "CONCURRENCY", "%d is not between 1 and %d, nor auto", c.Concurrency, maxConcurrency)
	check(c.Rate >= 0 && c.Rate <= maxRate, "RATE", "%v is not between 0 and %v calls a second", c.Rate, maxRate)
	check(c.MaxReply >= minReplyCap && c.MaxReply <= maxReplyCap, "MAX_REPLY", "%v is not between %d and %v", c.MaxReply, minReplyCap, maxReplyCap)
	if _, err := parseSecrets(c.Secret); err != nil {
		check(false, "SECRET", "%w", err)
	}
	check(!strings.ContainsFunc(c.Token.Reveal(), notTokenChar), "TOKEN", "a bearer token has no spaces, line ends or characters beyond ASCII")
	check((c.Cert == "") == (c.Key == ""), "CERT", "%s and %s belong together: set both or none", Variable(name, "CERT"), Variable(name, "KEY"))
	return errors.Join(append(faults, c.validateTarget(name, rawURL, check))...)
}

// validateTarget checks what depends on the URL.
func (c *Config) validateTarget(name, rawURL string, check func(ok bool, word, format string, args ...any)) error {
	target, err := parseURL(rawURL)
	if err != nil {
		return fmt.Errorf("ROLLCALL_SERVICES: service %s: %w", name, err)
	}
	if target.Scheme != "https" {
		check(c.CA == "", "CA", "is only for an https:// URL; %s has %s://", name, target.Scheme)
		check(c.Cert == "", "CERT", "is only for an https:// URL; %s has %s://", name, target.Scheme)
	}
	check(target.Scheme != "nats" || c.Token.IsZero(), "TOKEN", "is only for HTTP; a service on NATS is guarded by NATS permissions")
	if target.Scheme == "https" {
		_, err = c.tlsConfig(name)
	}
	return err
}

func notTokenChar(r rune) bool { return r <= ' ' || r > '~' }

// parseURL checks the URL of a service.
func parseURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, errors.New("the URL cannot be read; write http://host:port/path or nats://subject")
	}
	switch u.Scheme {
	case "http", "https":
		return u, checkHTTP(u)
	case "nats":
		return u, jobs.CheckSubject(strings.TrimPrefix(raw, natsScheme))
	default:
		return nil, fmt.Errorf("%q is not a URL with http://, https:// or nats://", u.Redacted())
	}
}

func checkHTTP(u *url.URL) error {
	switch {
	case u.Hostname() == "":
		return fmt.Errorf("%q names no host", u.Redacted())
	case u.User != nil:
		return errors.New("the URL holds a user or password, which would be shown in logs; use the _TOKEN variable")
	case u.Fragment != "":
		return fmt.Errorf("%q has a fragment, which is never sent", u.Redacted())
	}
	return checkLiteral(u.Hostname())
}
