package service

import (
	"fmt"
	"net/http"
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
	Concurrency Concurrency   `envconfig:"CONCURRENCY" default:"32" desc:"requests at once from one replica, or auto to find the limit of the service"`
	Rate        float64       `envconfig:"RATE" default:"0" desc:"requests per second from one replica; 0 = unlimited"`
	Required    bool          `envconfig:"REQUIRED" default:"true" desc:"false: its replies are reported but never fail a job"`
	Subjects    []string      `envconfig:"SUBJECTS" desc:"NATS subjects of the jobs that the service takes, separated by commas; empty = all"`
	Format      Format        `envconfig:"FORMAT" default:"batch" desc:"batch: one request for a batch; event: one for each job, a CloudEvent in binary mode; plain: one for each job, as it was published"`
	Method      string        `envconfig:"METHOD" default:"POST" desc:"POST, PUT, PATCH, GET or DELETE; only for the format plain; GET and DELETE send no body"`
	Headers     jobs.Secret   `envconfig:"HEADERS" desc:"further headers, as Name:value,Name:value; in the formats event and plain the values may have holes"`
	OK          Statuses      `envconfig:"OK" desc:"statuses that mean success besides 2xx, such as 409 or 404,409"`
	Retry       Statuses      `envconfig:"RETRY" desc:"statuses that mean: try again later"`
	Fail        Statuses      `envconfig:"FAIL" desc:"statuses that mean: the job is at fault"`
	FailIf      Condition     `envconfig:"FAIL_IF" desc:"what in the JSON of a 2xx reply fails a job, as /status=error or /code=a|b; only for the formats event and plain"`
	RetryIf     Condition     `envconfig:"RETRY_IF" desc:"what in the JSON of a 2xx reply asks for a retry, as /code=busy|locked; only for the formats event and plain"`
	Keep        bool          `envconfig:"KEEP" default:"false" desc:"true: a JSON reply becomes the data of the job in the completion event; only for the formats event and plain"`
	Secret      jobs.Secret   `envconfig:"SECRET" desc:"Standard Webhooks secret (whsec_…) that requests are signed with; two, separated by a comma, during a rotation"`
	Token       jobs.Secret   `envconfig:"TOKEN" desc:"bearer token sent with every request"`
	OAuthURL    string        `envconfig:"OAUTH_URL" desc:"token endpoint for OAuth 2.0 client credentials, instead of a token"`
	OAuthID     string        `envconfig:"OAUTH_ID" desc:"client id for the token endpoint"`
	OAuthSecret jobs.Secret   `envconfig:"OAUTH_SECRET" desc:"client secret for the token endpoint"`
	OAuthScopes []string      `envconfig:"OAUTH_SCOPES" desc:"scopes to ask for, separated by commas"`
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

// Longest is how long one call may take at most: all its tries and the waits between them. Waits for the
// rate and a permit are not counted.
func (c *Config) Longest() time.Duration {
	return time.Duration(c.Tries)*c.Timeout + time.Duration(c.Tries-1)*maxDelay
}

// sendsBody reports whether requests have a body.
func (c *Config) sendsBody() bool { return c.Method != http.MethodGet && c.Method != http.MethodDelete }

// readsBody reports whether the body of an accepted reply says anything.
func (c *Config) readsBody() bool {
	return c.Format == FormatBatch || c.FailIf.isSet() || c.RetryIf.isSet() || c.Keep
}

// bodyOf returns the body that is sent for a call.
func (c *Config) bodyOf(call *jobs.Call) []byte {
	if !c.sendsBody() {
		return nil
	}
	return call.Body
}

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
