package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/rs/zerolog"

	"rollcall/internal/service"
)

// checkedName is what a service is called that is checked by its URL: its settings are
// ROLLCALL_SVC_CHECK_….
const checkedName = "check"

// ErrNoSuchService is returned for a name that ROLLCALL_SERVICES does not have.
var ErrNoSuchService = errors.New("no such service")

// LoadCheck is [Load] for the check of one service, given by its name in ROLLCALL_SERVICES or by
// its URL. A URL that is none of these is a service of its own, by the name of check.
func LoadCheck(environ []string, nameOrURL string) (Config, Target, error) {
	cfg, err := Load(environ)
	isURL := strings.Contains(nameOrURL, "://")
	if i := slices.IndexFunc(cfg.Targets, func(t Target) bool { return t.Name == nameOrURL || t.URL == nameOrURL }); i >= 0 {
		return cfg, cfg.Targets[i], err
	}
	if !isURL {
		if err == nil {
			err = fmt.Errorf("%w as %q in ROLLCALL_SERVICES; give its URL", ErrNoSuchService, nameOrURL)
		}
		return cfg, Target{}, err
	}
	services := checkedName + "=" + nameOrURL
	for _, entry := range environ {
		if list, found := strings.CutPrefix(entry, "ROLLCALL_SERVICES="); found && list != "" {
			services = list + "," + checkedName + "=" + nameOrURL
		}
	}
	cfg, err = Load(append(slices.Clip(environ), "ROLLCALL_SERVICES="+services))
	if err != nil {
		return cfg, Target{}, err
	}
	return cfg, cfg.Targets[len(cfg.Targets)-1], nil
}

// Check sends a service the requests of good and bad days, see [service.Ref.Check]. NATS is only
// connected to for a service on NATS.
func Check(ctx context.Context, cfg Config, target Target, log zerolog.Logger, opts Options, sample service.Sample) (findings []service.Finding, err error) {
	deps := service.Deps{Version: opts.Version, RetryMax: cfg.Engine.RetryMax, Log: log}
	if strings.HasPrefix(target.URL, "nats:") {
		conn, err := connect(ctx, cfg, opts, log)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, conn.Close(ctx)) }()
		deps.Conn, deps.Heed = conn.NATS(), conn.HeedSubject
	}
	sample.BatchSize, sample.BatchBytes = cfg.Engine.BatchSize, cfg.Engine.BatchBytes
	return target.Check(ctx, target.Config, deps, sample)
}
