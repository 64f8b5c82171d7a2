package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	// The devkit imports it; named here because go build begins packages in the order of the imports. It is
	// by far the largest, and a core would be idle if it came last: 2 s of a first build on two cores.
	_ "github.com/nats-io/nats-server/v2/server"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"rollcall/internal/app"
	"rollcall/internal/bus"
	"rollcall/internal/demo"
	"rollcall/internal/devkit"
	"rollcall/internal/operate"
	"rollcall/internal/table"
	"rollcall/internal/telemetry"
)

// devHTTP is where the first replica of dev serves its pages, if it can.
const devHTTP = "127.0.0.1:8080"

// playground is what dev started.
type playground struct {
	NATS string `json:"nats_url"`
	// Pages is the address of the first replica's dashboard and health pages.
	Pages    string            `json:"pages"`
	Services map[string]string `json:"services"`
}

func (c *cli) devCommand() *cobra.Command {
	var keep string
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "A NATS server, demo services and a pool to play with",
		Long: `Dev starts what the demo starts, a NATS server, three microservices and two replicas of a pool,
and leaves it running until Ctrl-C. It listens on loopback: NATS on port 4222, or on a free one
if that is taken. It prints a line for every second in which something happened, and one when a
service gets into trouble. ROLLCALL_* settings apply, so ROLLCALL_SERVICES puts services of your own in
the place of the demo's.`,
		Example: `  worker dev
  worker dev --keep ./dev-store
  ROLLCALL_SERVICES=mine=http://localhost:3000/jobs worker dev`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.dev(cmd.Context(), keep) },
	}
	cmd.Flags().StringVar(&keep, "keep", "", "keep the streams in this directory; those that are there are used")
	return cmd
}

func (c *cli) dev(ctx context.Context, keep string) (err error) {
	around, err := demo.Surround(ctx, devkit.Options{Dir: keep, Port: devkit.DefaultPort}, false)
	if errors.Is(err, devkit.ErrPortTaken) {
		fmt.Fprintf(c.stderr, "Port %d is taken, using a free one.\n", devkit.DefaultPort)
		around, err = demo.Surround(ctx, devkit.Options{Dir: keep}, false)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, around.Stop()) }()
	settings, err := c.devSettings(ctx, around)
	if err != nil {
		return err
	}
	log := telemetry.NewLogger(settings[0].Log, c.stderr)
	if _, err := app.Setup(ctx, settings[0], log, app.Options{}, false); err != nil {
		return err
	}
	running, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	replicas, drain := demo.Replicas(running, fail, c.stderr, c.runOptions(), settings...)
	defer replicas.Wait()
	defer drain()
	if err := c.printPlayground(around, settings[0]); err != nil {
		return err
	}
	if err := c.showFeed(running, settings[0]); err != nil && running.Err() == nil {
		return err
	}
	<-running.Done()
	if ctx.Err() != nil {
		return nil // Ctrl-C is the end that was asked for
	}
	return context.Cause(running)
}

// showFeed prints what goes on until ctx is done.
func (c *cli) showFeed(ctx context.Context, cfg app.Config) error {
	connecting, cancel := context.WithTimeout(ctx, clientPatience)
	defer cancel()
	conn, err := bus.Connect(connecting, cfg.NATS, "rollcall dev", zerolog.Nop())
	if err != nil {
		return err
	}
	cl := &client{Conn: conn.KeepDoneIn(cfg.Streams.DoneStream(cfg.Pool)), cfg: cfg}
	defer cl.hangUp()
	return newFeed(c.stderr, cl.admin()).run(ctx, operate.NewEvents(conn), cfg.Pool)
}

// devSettings are those of each replica: what the surroundings need, over what the person set,
// over what suits a playground.
func (c *cli) devSettings(ctx context.Context, around *demo.Surroundings) ([]app.Config, error) {
	env := append([]string{"ROLLCALL_LOG_LEVEL=warn", "ROLLCALL_LOG_FORMAT=console", "ROLLCALL_HTTP_ADDR=" + freeAddr(ctx, devHTTP)}, around.Env()...)
	for _, entry := range c.env {
		if !strings.HasPrefix(entry, "NATS_") {
			env = append(env, entry)
		}
	}
	env = append(env, "NATS_URL="+around.Server.URL())
	first, err := app.LoadRun(env)
	if err != nil {
		return nil, err
	}
	for _, addr := range []*string{&first.Web.Addr, &first.Web.PageAddr} {
		if strings.HasSuffix(*addr, ":0") {
			*addr = freeAddr(ctx, *addr) // it is printed before the replica listens
		}
	}
	second, err := app.LoadRun(append(slices.Clip(env), "ROLLCALL_HTTP_ADDR="+demo.AnyPort, "ROLLCALL_PAGE_ADDR="))
	return []app.Config{first, second}, err
}

// freeAddr returns want if it can be listened on, else an address on a free port. Another
// process may take it before it is used; then the replica says so.
func freeAddr(ctx context.Context, want string) string {
	for _, addr := range []string{want, demo.AnyPort} {
		var lc net.ListenConfig
		if l, err := lc.Listen(ctx, "tcp", addr); err == nil {
			free := l.Addr().String()
			_ = l.Close()
			return free
		}
	}
	return want
}

// printPlayground prints what runs where, and what to try next.
func (c *cli) printPlayground(around *demo.Surroundings, cfg app.Config) error {
	p := playground{NATS: around.Server.URL(), Pages: "http://" + cfg.Web.Page() + "/", Services: map[string]string{}}
	for _, target := range cfg.Targets {
		p.Services[target.Name] = target.URL
	}
	columns := []table.Column[playground]{
		table.Col("NATS", func(p playground) string { return p.NATS }),
		table.Col("pages", func(p playground) string { return p.Pages }),
	}
	for _, target := range cfg.Targets {
		columns = append(columns, table.Col(target.Name, func(p playground) string { return p.Services[target.Name] }))
	}
	if err := table.One(c.printer(), p, columns...); err != nil {
		return err
	}
	fmt.Fprintln(c.stderr, "\nTry in another terminal:")
	for _, command := range nextCommands(p.NATS, invocation()) {
		fmt.Fprintln(c.stderr, "  "+command)
	}
	fmt.Fprintln(c.stderr, "\nCtrl-C ends it all.")
	return nil
}

// nextCommands are to be pasted into a shell; program is how to call this one there.
func nextCommands(url, program string) []string {
	if !strings.HasSuffix(url, fmt.Sprintf(":%d", devkit.DefaultPort)) {
		program = "NATS_URL=" + url + " " + program
	}
	return []string{
		program + ` publish jobs.mail '{"to":"ann"}' --wait`,
		program + ` events --all`,
		`nats --server ` + url + ` sub 'batches.>'`,
	}
}

// invocation is how a person calls this program: by its name where the shell finds it, by
// `go run` where that built it, else by its path.
func invocation() string {
	self, err := os.Executable()
	if err != nil {
		return "worker"
	}
	if strings.Contains(self, string(filepath.Separator)+"go-build") {
		return "go run ./cmd/worker"
	}
	if found, err := exec.LookPath(filepath.Base(self)); err == nil && found == self {
		return filepath.Base(self)
	}
	return self
}
