package faulttest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// startLimit is how long a child may take to come up on a busy machine.
const startLimit = 30 * time.Second

// BrokerOptions say what a broker is. The zero value is a single node with JetStream.
type BrokerOptions struct {
	// Name of the server, "broker" if empty.
	Name string
	// Config is the path of a complete configuration file, used instead of the harness's
	// own. It says where the store is; ports and addresses are the harness's.
	Config string
	// Extra is added to the harness's configuration.
	Extra string
	// Store is the directory of the store; a temporary one if empty.
	Store string
	// MaxFile is the limit of the file store, 1GB if empty.
	MaxFile string
	// Sync is sync_interval: a duration or "always", the server's default if empty.
	Sync string
	// Env is added to the environment of the server.
	Env []string
}

// Broker is a nats-server in a child process, with a store and ports that stay the same
// over restarts.
type Broker struct {
	*Process
	// URL for clients.
	URL  string
	t    testing.TB
	name string
	port int
	http string
	args []string
	env  []string
	// conf is the path of the configuration.
	conf    string
	options BrokerOptions
}

// StartBroker starts a broker and waits until it is healthy.
func StartBroker(t testing.TB, o BrokerOptions) *Broker {
	t.Helper()
	b := newBroker(t, o)
	b.Restart()
	return b
}

func newBroker(t testing.TB, o BrokerOptions) *Broker {
	t.Helper()
	if o.Name == "" {
		o.Name = "broker"
	}
	if o.Store == "" {
		o.Store = t.TempDir()
	}
	if o.MaxFile == "" {
		o.MaxFile = "1GB"
	}
	port, monitor := FreePort(t), FreePort(t)
	b := &Broker{
		t: t, name: o.Name, port: port, conf: o.Config, env: o.Env, options: o,
		URL:  fmt.Sprintf("nats://127.0.0.1:%d", port),
		http: fmt.Sprintf("http://127.0.0.1:%d", monitor),
	}
	if b.conf == "" {
		b.conf = filepath.Join(t.TempDir(), o.Name+".conf")
		b.Configure(o.MaxFile, o.Extra)
	}
	b.args = []string{"-c", b.conf, "-a", "127.0.0.1", "-p", fmt.Sprint(port), "-m", fmt.Sprint(monitor)}
	return b
}

// Configure changes what [BrokerOptions] said of MaxFile and Extra; [Broker.Reload] or a
// restart makes it count. A broker with a configuration file of its own is configured by
// editing that.
func (b *Broker) Configure(maxFile, extra string) {
	b.t.Helper()
	sync := ""
	if b.options.Sync != "" {
		sync = ", sync_interval: " + b.options.Sync
	}
	text := fmt.Sprintf("server_name: %s\njetstream { store_dir: %q, max_file_store: %s%s }\n%s\n",
		b.name, b.options.Store, maxFile, sync, extra)
	if err := os.WriteFile(b.conf, []byte(text), 0o600); err != nil {
		b.t.Fatalf("write the configuration of %s: %v", b.name, err)
	}
}

// Reload makes the server read its configuration again, and waits until it did.
func (b *Broker) Reload() {
	b.t.Helper()
	const done, refused = "Reloaded server configuration", "Failed to reload server configuration"
	before := strings.Count(b.Log(), done)
	b.Signal(syscall.SIGHUP)
	Until(b.t, startLimit, b.name+" reloaded its configuration", func() bool {
		if strings.Contains(b.Log(), refused) {
			b.t.Fatalf("%s refused its new configuration", b.name)
		}
		return strings.Count(b.Log(), done) > before
	})
}

// Restart starts the server again with its store, killing it first if it still runs, and
// waits until it is healthy.
func (b *Broker) Restart() {
	b.t.Helper()
	b.begin()
	b.WaitHealthy("")
}

func (b *Broker) begin() {
	b.t.Helper()
	if b.Process != nil {
		b.Kill()
	}
	cmd := Again(roleBroker, b.env, b.args...)
	if path := os.Getenv(ServerVariable); path != "" {
		cmd = exec.Command(path, b.args...)
		cmd.Env = append([]string{}, b.env...)
	}
	b.Process = Start(b.t, b.name, cmd)
}

// WaitHealthy waits until /healthz?query answers 200.
func (b *Broker) WaitHealthy(query string) {
	b.t.Helper()
	Until(b.t, startLimit, b.name+" is healthy", func() bool {
		if !b.Running() {
			b.t.Fatalf("%s ended at its start", b.name)
		}
		return b.probe("/healthz?"+query) == http.StatusOK
	})
}

// probe returns the status of a monitoring page, 0 if there is no reply.
func (b *Broker) probe(page string) int {
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(b.http + page)
	if err != nil {
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// Monitor is the URL of the monitoring port.
func (b *Broker) Monitor() string { return b.http }

// Addr is host and port for clients.
func (b *Broker) Addr() string { return fmt.Sprintf("127.0.0.1:%d", b.port) }

// Connect opens a client connection of the test to urls that survives everything; it is
// closed at the end of the test.
func Connect(t testing.TB, urls string, options ...nats.Option) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(urls, append([]nats.Option{
		nats.Name("faulttest"), nats.MaxReconnects(-1), nats.ReconnectWait(50 * time.Millisecond),
		nats.PingInterval(time.Second), nats.Timeout(startLimit), nats.ReconnectBufSize(-1),
		// Denials are what some scenarios are about; the default handler prints them.
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}),
	}, options...)...)
	if err != nil {
		t.Fatalf("connect to %s: %v", urls, err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// JetStream opens a JetStream context of the test on nc.
func JetStream(t testing.TB, nc *nats.Conn) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(5*time.Second))
	if err != nil {
		t.Fatalf("open JetStream: %v", err)
	}
	return js
}

// FreePort finds a loopback port below the kernel's ephemeral range, so that neither an
// outgoing connection nor a listener on port 0 takes it while a server is being restarted.
// Until the test ends the UDP port of the same number is held: it is in nobody's way, and shows
// every other FreePort, in any process, that the number is taken.
func FreePort(t testing.TB) int {
	t.Helper()
	for range 100 {
		port := 20000 + rand.IntN(12000)
		mark, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
		if err != nil {
			continue
		}
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			_ = mark.Close()
			continue
		}
		_ = listener.Close()
		awaitRefusal(t, listener.Addr().String())
		t.Cleanup(func() { _ = mark.Close() })
		return port
	}
	t.Fatal("no free loopback port found")
	return 0
}

// awaitRefusal waits until a listener that was closed at addr is gone for good. A child process
// that was being started meanwhile holds every open descriptor from its fork to its exec, so the
// address stays taken, and takes connections, for a moment after the close.
func awaitRefusal(t testing.TB, addr string) {
	t.Helper()
	Until(t, startLimit, "the port "+addr+" is free again", func() bool {
		conn, err := net.DialTimeout("tcp", addr, startLimit)
		if err == nil {
			_ = conn.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	})
}
