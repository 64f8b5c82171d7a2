package app

import (
	"errors"
	"fmt"
	"regexp"
	"time"

	"rollcall/internal/bus"
	"rollcall/internal/pool"
	"rollcall/internal/service"
	"rollcall/internal/settings"
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
	// Effective lists every setting as it took effect, secrets masked.
	Effective []settings.Setting `ignored:"true"`
}

// Target is one microservice and its settings.
type Target struct {
	service.Ref
	Config service.Config
}

// Load reads the settings from environ, entries of the form NAME=value, and from the files
// that _FILE variables name; from nothing else. Services may be missing: commands that run no
// pool need none. The error is a [*settings.FaultsError] with every fault found.
func Load(environ []string) (Config, error) {
	c, r := load(environ, false)
	return c, r.Err()
}

// LoadRun is [Load] for a process that runs a pool: services are required.
func LoadRun(environ []string) (Config, error) {
	c, r := load(environ, true)
	return c, r.Err()
}

// Settings lists every setting as it took effect, secrets masked. The error is that of
// [LoadRun], and what is wrong with the files for NATS; the list is complete all the same.
func Settings(environ []string) ([]settings.Setting, error) {
	c, r := load(environ, true)
	r.Note(c.NATS.CheckFiles())
	return r.Settings(), r.Err()
}

func load(environ []string, needServices bool) (Config, *settings.Reader) {
	r := settings.NewReader(environ)
	var c Config
	r.Fill(&c)
	c.NATS.Horizon = c.Streams.ZombieHorizon
	refs, err := service.ParseServices(c.Services)
	if err != nil && (needServices || !errors.Is(err, service.ErrNoServices)) {
		r.Note(err)
	}
	names := make([]string, len(refs))
	c.Targets = make([]Target, len(refs))
	for i, ref := range refs {
		names[i] = ref.Name
		target := &c.Targets[i]
		target.Ref = ref
		r.Fill(target.Config.Spec(ref.Name))
		r.Note(target.Config.Validate(ref.Name, ref.URL))
	}
	r.Note(c.Validate())
	r.RefuseUnknown(names, err == nil || errors.Is(err, service.ErrNoServices), service.Variable)
	c.Effective = r.Settings()
	return c, r
}

// maxDrain bounds the time that a stop may take.
const maxDrain = 24 * time.Hour

// poolName is what a pool may be called: it is the name of a consumer and a token of subjects.
const poolName = `^[A-Za-z0-9_-]{1,64}$`

// ValidPool reports whether a pool may have a name.
func ValidPool(name string) bool { return regexp.MustCompile(poolName).MatchString(name) }

// Validate returns every fault, joined: those of each part, and those between parts.
func (c *Config) Validate() error {
	faults := []error{
		c.NATS.Validate(), c.Streams.Validate(), c.Streams.CheckEvents(c.Pool), c.Engine.Validate(), c.Web.Validate(), c.Log.Validate(),
	}
	for _, target := range c.Targets {
		if filter, ok := target.RequestFilter(); ok {
			faults = append(faults, c.Streams.CheckService(target.Name, filter))
		}
	}
	check := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	check(ValidPool(c.Pool), "ROLLCALL_POOL is %q: want 1 to 64 letters, digits, _ and -", c.Pool)
	check(c.DrainTimeout > 0 && c.DrainTimeout <= maxDrain, "ROLLCALL_DRAIN_TIMEOUT is %v: want more than 0, or a stop would cut off every call, and at most %v", c.DrainTimeout, maxDrain)
	if errors.Join(faults...) != nil {
		return errors.Join(faults...) // what follows compares settings that must be sound
	}
	check(c.Streams.ZombieHorizon >= c.Streams.AckWait,
		"ROLLCALL_ZOMBIE_HORIZON is %v: want at least ROLLCALL_ACK_WAIT (%v), or a worker that lost its lease could double what it finishes", c.Streams.ZombieHorizon, c.Streams.AckWait)
	check(c.Streams.LedgerTTL > c.Engine.RetryMax,
		"ROLLCALL_LEDGER_TTL is %v: want more than ROLLCALL_RETRY_MAX (%v), or a job's attempts are forgotten before its next one", c.Streams.LedgerTTL, c.Engine.RetryMax)
	return errors.Join(faults...)
}

// Markdown returns the table of all settings for the documentation, made from the same tags
// that the settings are read by.
func Markdown() string {
	return settings.Markdown(new(Config), new(service.Config).Spec("<NAME>"))
}
