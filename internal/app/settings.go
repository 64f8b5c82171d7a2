package app

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"rollcall/internal/bus"
	"rollcall/internal/pool"
	"rollcall/internal/service"
	"rollcall/internal/telemetry"
	"rollcall/internal/web"
)

// Config is all settings of a worker. [Load] fills it; nothing else reads the environment.
type Config struct {
	Pool         string        `envconfig:"ROLLCALL_POOL" default:"default" desc:"name of the pool; replicas with the same name share the work"`
	Services     string        `envconfig:"ROLLCALL_SERVICES" desc:"the services every batch is sent to, as name=URL, separated by commas: billing=http://billing:8080/jobs,index=nats://svc.index; required"`
	DrainTimeout time.Duration `envconfig:"ROLLCALL_DRAIN_TIMEOUT" default:"25s" desc:"how long a stopping replica may take to finish what it holds"`
	NATS         bus.Config
	Streams      bus.Streams
	Engine       pool.Config
	Web          web.Config
	Log          telemetry.Config

	// Targets are the services of Services, each with its own settings.
	Targets []Target `ignored:"true"`
}

// Target is one microservice and its settings.
type Target struct {
	service.Ref
	Config service.Config
}

// FaultsError tells everything that is wrong with the settings, at once.
type FaultsError struct {
	// Faults each name a variable and how to mend it.
	Faults []error
}

// Error lists the faults, one a line.
func (e *FaultsError) Error() string {
	var b strings.Builder
	if len(e.Faults) == 1 {
		b.WriteString("the settings have a fault:")
	} else {
		fmt.Fprintf(&b, "the settings have %d faults:", len(e.Faults))
	}
	for _, fault := range e.Faults {
		b.WriteString("\n  - " + strings.ReplaceAll(fault.Error(), "\n", "\n    "))
	}
	return b.String()
}

// Unwrap returns the faults.
func (e *FaultsError) Unwrap() []error { return e.Faults }

// Load reads the settings from environ, entries of the form NAME=value, and from the files
// that _FILE variables name; from nothing else. Services may be missing: commands that run no
// pool need none. The error is a [*FaultsError] with every fault found.
func Load(environ []string) (Config, error) {
	c, r := load(environ, false)
	return c, r.err()
}

// LoadRun is [Load] for a process that runs a pool: services are required.
func LoadRun(environ []string) (Config, error) {
	c, r := load(environ, true)
	return c, r.err()
}

// Settings lists every setting as it took effect, secrets masked. The error is that of
// [LoadRun]; the list is complete all the same.
func Settings(environ []string) ([]Setting, error) {
	_, r := load(environ, true)
	return r.settings, r.err()
}

func load(environ []string, needServices bool) (Config, *reader) {
	r := newReader(environ)
	var c Config
	r.fill(&c)
	refs, err := service.ParseServices(c.Services)
	if err != nil && (needServices || !errors.Is(err, service.ErrNoServices)) {
		r.faults = append(r.faults, spread(err)...)
	}
	names := make([]string, len(refs))
	c.Targets = make([]Target, len(refs))
	for i, ref := range refs {
		names[i] = ref.Name
		target := &c.Targets[i]
		target.Ref = ref
		r.fill(target.Config.Spec(ref.Name))
		r.faults = append(r.faults, spread(target.Config.Validate(ref.Name, ref.URL))...)
	}
	r.faults = append(r.faults, spread(c.Validate())...)
	r.refuseUnknown(names)
	return c, r
}

// err joins the faults; nil if there is none.
func (r *reader) err() error {
	if len(r.faults) == 0 {
		return nil
	}
	return &FaultsError{Faults: r.faults}
}

// spread undoes errors.Join, so that faults can be counted and listed.
func spread(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, spread(e)...)
	}
	return all
}

// poolName is what a pool may be called: it is the name of a consumer and a token of subjects.
const poolName = `^[A-Za-z0-9_-]{1,64}$`

// Validate returns every fault, joined: those of each part, and those between parts.
func (c *Config) Validate() error {
	faults := []error{
		c.NATS.Validate(), c.Streams.Validate(), c.Engine.Validate(), c.Web.Validate(), c.Log.Validate(),
	}
	check := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	check(regexp.MustCompile(poolName).MatchString(c.Pool), "ROLLCALL_POOL is %q: want 1 to 64 letters, digits, _ and -", c.Pool)
	check(c.DrainTimeout > 0, "ROLLCALL_DRAIN_TIMEOUT is %v: want more than 0, or a stop would cut off every call", c.DrainTimeout)
	check(c.Streams.ZombieHorizon >= c.Streams.AckWait,
		"ROLLCALL_ZOMBIE_HORIZON is %v: want at least ROLLCALL_ACK_WAIT (%v), or a worker that lost its lease could double what it finishes", c.Streams.ZombieHorizon, c.Streams.AckWait)
	check(c.Engine.BatchLinger < c.Streams.AckWait,
		"ROLLCALL_BATCH_LINGER is %v: want less than ROLLCALL_ACK_WAIT (%v)", c.Engine.BatchLinger, c.Streams.AckWait)
	check(c.Streams.LedgerTTL > c.Engine.RetryMax,
		"ROLLCALL_LEDGER_TTL is %v: want more than ROLLCALL_RETRY_MAX (%v), or a job's attempts are forgotten before its next one", c.Streams.LedgerTTL, c.Engine.RetryMax)
	return errors.Join(faults...)
}
