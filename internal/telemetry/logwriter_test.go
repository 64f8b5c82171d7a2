package telemetry_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"rollcall/internal/telemetry"
)

// gate is a reader of the log that stands still until it is opened.
type gate struct {
	open chan struct{}
	buf  bytes.Buffer
}

func (g *gate) Write(p []byte) (int, error) {
	<-g.open
	return g.buf.Write(p)
}

func TestASlowReaderOfTheLogCostsLinesAndNoTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &gate{open: make(chan struct{})}
		log := telemetry.OpenLog(telemetry.Config{Level: "info", Format: telemetry.FormatJSON}, g)
		begun := time.Now()
		const lines, long = 2000, 4 << 10
		for range lines {
			log.Info().Str("text", strings.Repeat("x", long)).Msg("hello")
		}
		if waited := time.Since(begun); waited != 0 {
			t.Errorf("the one who logs waited %v", waited)
		}
		dropped := log.Dropped()
		if kept := lines - int(dropped); kept < 100 || kept > (1<<20)/long+1 {
			t.Errorf("%d lines of 4 KiB are kept, want about 1 MiB", kept)
		}
		close(g.open)
		synctest.Wait()
		log.Info().Msg("goodbye")
		log.Close(time.Minute)
		out := g.buf.String()
		if n := strings.Count(out, "\n"); n != lines-int(dropped)+2 {
			t.Errorf("%d lines were written, want those kept, one that says how many were not, and the last", n)
		}
		if strings.Count(out, "log lines were dropped") != 1 || !strings.Contains(out, "goodbye") {
			t.Errorf("nothing says what was lost, or the last line is: %.200q", out[max(0, len(out)-400):])
		}
	})
}

func TestALogWithoutAReaderIsLeftBehind(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &gate{open: make(chan struct{})}
		log := telemetry.OpenLog(telemetry.Config{Level: "info", Format: telemetry.FormatConsole}, g)
		log.Info().Msg("hello")
		begun := time.Now()
		log.Close(time.Second)
		if waited := time.Since(begun); waited != time.Second {
			t.Errorf("Close waited %v, want a second", waited)
		}
		close(g.open)
		synctest.Wait()
	})
}

func TestALogThatIsGoneLosesLinesOnly(t *testing.T) {
	t.Parallel()
	read, write := io.Pipe()
	if err := read.CloseWithError(errors.New("broken pipe")); err != nil {
		t.Fatal(err)
	}
	log := telemetry.OpenLog(telemetry.Config{Level: "info", Format: telemetry.FormatJSON}, write)
	log.Info().Msg("hello")
	log.Close(time.Minute)
	if log.Dropped() != 1 {
		t.Errorf("%d lines are counted as lost, want 1", log.Dropped())
	}
}
