// Package telemetry makes what happens visible: the logger and the observer that the pool
// reports to. Nothing here is global; both are passed to the packages that need them.
package telemetry

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/rs/zerolog"
)

// Config is how to log.
type Config struct {
	Level  string `envconfig:"ROLLCALL_LOG_LEVEL" default:"info" desc:"debug (a line per batch), info (state changes), warn or error"`
	Format string `envconfig:"ROLLCALL_LOG_FORMAT" default:"json" desc:"json for machines, console for people"`
}

// The formats of a log.
const (
	FormatJSON    = "json"
	FormatConsole = "console"
)

// timeFormat has milliseconds; zerolog's own time stamp has none unless a global is changed.
const timeFormat = "2006-01-02T15:04:05.000Z07:00"

// Validate returns all faults, joined.
func (c Config) Validate() error {
	var faults []error
	if _, ok := level(c.Level); !ok {
		faults = append(faults, fmt.Errorf("ROLLCALL_LOG_LEVEL is %q: want debug, info, warn or error", c.Level))
	}
	if c.Format != FormatJSON && c.Format != FormatConsole {
		faults = append(faults, fmt.Errorf("ROLLCALL_LOG_FORMAT is %q: want json or console", c.Format))
	}
	return errors.Join(faults...)
}

// NewLogger returns a logger that writes whole lines to out, from any goroutine. An unknown
// level or format is read as the default; Validate refuses it before.
func NewLogger(c Config, out io.Writer) zerolog.Logger {
	out = zerolog.SyncWriter(out)
	if c.Format == FormatConsole {
		out = zerolog.ConsoleWriter{Out: out, NoColor: true, TimeFormat: "15:04:05.000"}
	}
	lvl, _ := level(c.Level)
	return zerolog.New(out).Level(lvl).Hook(zerolog.HookFunc(stamp))
}

func stamp(e *zerolog.Event, _ zerolog.Level, _ string) {
	e.Str(zerolog.TimestampFieldName, time.Now().UTC().Format(timeFormat))
}

// level reads a level's name. zerolog's own parser takes numbers and levels that end the process, too.
func level(name string) (zerolog.Level, bool) {
	switch name {
	case "debug":
		return zerolog.DebugLevel, true
	case "info":
		return zerolog.InfoLevel, true
	case "warn":
		return zerolog.WarnLevel, true
	case "error":
		return zerolog.ErrorLevel, true
	default:
		return zerolog.InfoLevel, false
	}
}
