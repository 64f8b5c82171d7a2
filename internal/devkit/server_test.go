package devkit_test

import (
	"errors"
	"net"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"rollcall/internal/devkit"
	"rollcall/internal/devkit/devkittest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func connect(t *testing.T, url string) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func TestTheServerKeepsStreamsOverARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := devkittest.Start(t, devkit.Options{Dir: dir})
	js := connect(t, s.URL())
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "s", []byte("kept")); err != nil {
		t.Fatal(err)
	}
	s.Shutdown()

	again := devkittest.Start(t, devkit.Options{Dir: dir})
	stream, err := connect(t, again.URL()).Stream(t.Context(), "S")
	if err != nil {
		t.Fatal(err)
	}
	if n := stream.CachedInfo().State.Msgs; n != 1 {
		t.Errorf("the stream holds %d messages after the restart, want 1", n)
	}
}

func TestShutdownRemovesATemporaryStoreAndLeavesAGivenOne(t *testing.T) {
	t.Parallel()
	given := t.TempDir()
	temporary := devkittest.Start(t, devkit.Options{})
	kept := devkittest.Start(t, devkit.Options{Dir: given})
	temporary.Shutdown()
	temporary.Shutdown()
	kept.Shutdown()
	if _, err := os.Stat(temporary.Dir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the temporary store %s is still there: %v", temporary.Dir(), err)
	}
	if _, err := os.Stat(given); err != nil {
		t.Errorf("the given store: %v", err)
	}
}

func TestATakenPortIsToldApart(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	n, _ := strconv.Atoi(port)
	if _, err := devkit.Start(t.Context(), devkit.Options{Port: n}); !errors.Is(err, devkit.ErrPortTaken) {
		t.Errorf("got %v, want ErrPortTaken", err)
	}
}

func TestAStoreThatCannotBeWrittenIsAnError(t *testing.T) {
	t.Parallel()
	file := t.TempDir() + "/file"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if _, err := devkit.Start(t.Context(), devkit.Options{Dir: file}); err == nil {
		t.Error("started on a store that is a file")
	}
	if took := time.Since(begun); took > 20*time.Second {
		t.Errorf("the failure took %s to be noticed", took)
	}
}
