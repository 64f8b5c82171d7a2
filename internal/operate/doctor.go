package operate

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
)

// Health is how a finding is to be taken.
type Health string

// Well: as it should be. Unsure: could not be found out. Risky: works, but a promise does not
// hold. Broken: the pool cannot work, or loses jobs.
const (
	Well   Health = "ok"
	Unsure Health = "unknown"
	Risky  Health = "warning"
	Broken Health = "error"
)

// Finding is one thing that the doctor looked at.
type Finding struct {
	Check  string `json:"check"`
	Health Health `json:"health"`
	Detail string `json:"detail"`
	// Remedy says how to fix it; empty where nothing needs fixing.
	Remedy string `json:"remedy,omitempty"`
}

// placeTimeout bounds the questions of where the worker is.
const placeTimeout = 3 * time.Second

// ErrNotTried is what a [Dependency] returns that can only be tried by a call.
var ErrNotTried = errors.New("not tried")

// Dependency is a service that a replica calls.
type Dependency struct {
	Name string
	// Takes are the subjects of the jobs that it takes; empty = all.
	Takes []string
	// Ask finds out whether the service is there and set up as the settings say, and returns what
	// it said. Its error wraps [ErrNotTried] if it cannot tell.
	Ask func(ctx context.Context) (said string, err error)
}

// Patient is what the doctor looks at.
type Patient struct {
	// Connect connects to NATS with the rights of a replica.
	Connect      func(ctx context.Context) (*bus.Conn, error)
	Streams      bus.Streams
	Pool         string
	Dependencies []Dependency
	// Monitor is the URL of the monitoring port of the NATS server; empty = port 8222 of the
	// server connected to.
	Monitor string
	// Files is how many files a replica with these settings may have open at once.
	Files int
}

// doctor collects findings.
type doctor struct {
	Patient
	findings []Finding
	// troubled are the services whose calls a replica of the pool holds back.
	troubled map[string]trouble
}

func (d *doctor) find(check string, h Health, remedy, format string, args ...any) {
	detail := strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "; ") // joined errors have lines
	d.findings = append(d.findings, Finding{Check: check, Health: h, Detail: detail, Remedy: remedy})
}

// Doctor looks at everything that a replica depends on and says what is wrong and how to fix it.
// It changes nothing; services are asked with a batch without jobs, and replicas what they see of them. The error wraps [bus.ErrUnreachable] if there is no
// server; the findings are complete all the same.
func Doctor(ctx context.Context, p Patient) ([]Finding, error) {
	d := &doctor{Patient: p}
	conn, err := p.Connect(ctx)
	if err != nil {
		d.find("connection", Broken, "Start the server, or set NATS_URL and the way to log in.", "%v", err)
	} else {
		d.examine(ctx, conn)
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		if fault := conn.Close(closing); fault != nil {
			d.find("connection", Risky, "Look at the network between worker and server.", "%v", fault)
		}
	}
	d.services(ctx)
	d.files()
	return d.findings, err
}

const (
	// examineTimeout bounds everything that is asked of the broker.
	examineTimeout = 30 * time.Second
	// closeTimeout bounds the end of the connection.
	closeTimeout = 3 * time.Second
)

// lookAgain is the remedy where no reply came.
const lookAgain = "Look at the network between worker and server, and ask again."

// examine looks at what needs the connection.
func (d *doctor) examine(ctx context.Context, conn *bus.Conn) {
	ctx, cancel := context.WithTimeout(ctx, examineTimeout)
	defer cancel()
	d.connection(ctx, conn)
	admin := NewAdmin(conn, d.Streams, d.Pool)
	if d.Streams.Source == bus.SourceCore {
		d.find("streams", Well, "", "not used in core mode; jobs are delivered at most once")
		d.replicas(ctx, admin)
		return
	}
	if !d.rights(ctx, admin) {
		return // everything further would time out for want of a right
	}
	d.replicas(ctx, admin)
	if d.differences(ctx, admin, bus.NewSetup(conn, d.Streams, d.Pool)) {
		d.bound(ctx, conn)
		d.backlog(ctx, admin)
		d.routes(ctx, conn)
		d.room(ctx, conn, admin)
		d.clock(ctx, admin)
	}
	d.server(ctx, conn)
}

func (d *doctor) connection(ctx context.Context, conn *bus.Conn) {
	nc := conn.NATS()
	transport, remedy, health := "TLS", "", Well
	if _, err := nc.TLSConnectionState(); err != nil {
		transport = "no TLS"
		if !loopback(nc.ConnectedAddr()) {
			health, remedy = Risky, "Turn on TLS at the server (deploy/nats/tls.conf) and set NATS_CA."
		}
	}
	d.find("connection", health, remedy, "%s, nats-server %s, %s, max payload %d bytes",
		nc.ConnectedUrlRedacted(), nc.ConnectedServerVersion(), transport, nc.MaxPayload())
	d.place(ctx, conn)
	if err := bus.CheckVersion(nc.ConnectedServerVersion()); err != nil {
		d.find("version", Broken, "Upgrade the server.", "%v", err)
	} else if err := bus.CheckDelays(nc.ConnectedServerVersion()); err != nil {
		d.find("delayed jobs", Risky, "Upgrade the server if jobs should be delayed or repeated.", "%v", err)
	}
}

// place says whose JetStream the commands and the worker would use: an account, a domain, and the
// server that is asked. A worker in the wrong one finds, or makes, streams that nobody else uses.
func (d *doctor) place(ctx context.Context, conn *bus.Conn) {
	ctx, cancel := context.WithTimeout(ctx, placeTimeout)
	defer cancel()
	name := func(said, otherwise string) string {
		if said == "" {
			return otherwise
		}
		return said
	}
	var user struct {
		Data struct {
			Account string `json:"account"`
		} `json:"data"`
	}
	if answer, err := conn.NATS().RequestWithContext(ctx, "$SYS.REQ.USER.INFO", nil); err == nil {
		_ = json.Unmarshal(answer.Data, &user) // what it does not say is not known
	}
	domain := ""
	if info, err := conn.JetStream().AccountInfo(ctx); err == nil {
		domain = info.Domain
	}
	d.find("place", Well, "", "server %s, account %s, JetStream domain %s (%s.>)", conn.NATS().ConnectedServerName(),
		name(user.Data.Account, "not known"), name(domain, "none"), strings.TrimSuffix(conn.API(""), "."))
}

// loopback reports whether an address never leaves this machine.
func loopback(address string) bool {
	ap, err := netip.ParseAddrPort(address)
	return err == nil && ap.Addr().Unmap().IsLoopback()
}

// rights reports whether everything else can be looked at.
func (d *doctor) rights(ctx context.Context, admin *Admin) bool {
	missing, err := admin.MissingRights(ctx)
	if err != nil {
		d.find("permissions", Unsure, lookAgain, "%v", err)
		return false
	}
	blind := false
	for _, right := range missing {
		verb, health := "publish to", Broken
		if right.Subscribe {
			verb = "subscribe to"
		}
		if right.Unknown {
			d.find("permissions", Unsure, "Look whether the server and its JetStream are well.",
				"no reply to a trial of %q, needed to %s", right.Subject, right.Purpose)
			continue
		}
		if right.Optional {
			health = Risky
		}
		blind = blind || right.Subscribe || !right.Optional && strings.Contains(right.Subject, ".INFO.")
		d.find("permissions", health, fmt.Sprintf("Let the user %s %q.", verb, right.Subject),
			"the user may not %s %q, needed to %s", verb, right.Subject, right.Purpose)
	}
	if len(missing) == 0 {
		d.find("permissions", Well, "", "everything that a worker does is allowed")
	}
	return !blind
}

// differences reports whether streams can be looked at.
func (d *doctor) differences(ctx context.Context, admin *Admin, setup *bus.Setup) bool {
	differences, err := setup.Check(ctx)
	if err != nil {
		d.find("streams", Broken, "This comes first: without streams there is no work.", "%v", err)
		return false
	}
	if err := setup.CheckPredecessor(ctx); errors.Is(err, bus.ErrTakeOver) {
		d.find("pool", Broken, "Take it over, or forget it; until then no replica starts.", "%v", err)
	}
	for _, diff := range differences {
		switch {
		case diff.Missing:
			health, remedy := Broken, "Run worker setup as a user who may create it."
			if d.Streams.Ensure && admin.MayCreate(ctx, diff.Object) {
				health, remedy = Risky, "Run worker setup, or start a replica, which creates it."
			}
			if strings.HasPrefix(diff.Object, "consumer ") {
				remedy += " The pools of a work queue must not take the same ROLLCALL_SUBJECTS."
			}
			d.find(diff.Object, health, remedy, "%s", strings.TrimSuffix("missing; "+diff.Harm, "; "))
		case diff.Harmless:
			d.find(diff.Object, Well, "", "%s is %s, not %s: %s", diff.Field, diff.Have, diff.Want, diff.Harm)
		default:
			health := Risky
			if diff.Fatal {
				health = Broken
			}
			d.find(diff.Object, health, "Fix it: "+diff.Fix, "%s is %s, want %s: %s", diff.Field, diff.Have, diff.Want, diff.Harm)
		}
	}
	if !slices.ContainsFunc(differences, func(diff bus.Difference) bool { return !diff.Harmless }) {
		d.find("streams", Well, "", "streams and consumer are as Rollcall would make them")
	}
	return true
}

// bound warns of a work queue that nothing keeps from filling the store.
func (d *doctor) bound(ctx context.Context, conn *bus.Conn) {
	stream, err := conn.Stream(ctx, d.Streams.Stream)
	if err != nil {
		return // reported already
	}
	cfg := &stream.CachedInfo().Config
	if cfg.Retention == jetstream.WorkQueuePolicy && cfg.MaxBytes <= 0 {
		d.find("stream "+cfg.Name+" limit", Risky, "Set ROLLCALL_STREAM_BYTES before it is created, or: nats stream edit "+cfg.Name+" --max-bytes=4GiB",
			"max_bytes is none: a flood of jobs can fill the store until no batch can be committed")
	}
}

// backlog finds how much work waits.
func (d *doctor) backlog(ctx context.Context, admin *Admin) {
	backlog, err := admin.Backlog(ctx)
	switch {
	case errors.Is(err, bus.ErrMissing): // reported already
	case err != nil:
		d.find("backlog", Unsure, lookAgain, "%v", err)
	default:
		delayed := "an unknown number"
		if backlog.Delayed >= 0 {
			delayed = strconv.FormatInt(backlog.Delayed, 10)
		}
		d.find("backlog", Well, "", "%d jobs of this pool wait, %d are out with replicas or wait for their next attempt; %d jobs stored in all, and %s delayed",
			backlog.Pending, backlog.Unsettled, backlog.Stored, delayed)
	}
}

// Offsets of the clocks that are worth a word: signatures go by this machine's.
const (
	clockWarning = time.Second
	clockError   = time.Minute
)

func (d *doctor) clock(ctx context.Context, admin *Admin) {
	offset, within, err := admin.ClockOffset(ctx)
	if errors.Is(err, bus.ErrMissing) {
		return // reported already
	}
	if err != nil {
		d.find("clock", Unsure, lookAgain, "%v", err)
		return
	}
	health, remedy := Well, ""
	if distance := offset.Abs() - within; distance > clockError {
		health, remedy = Broken, "Synchronise the clocks (NTP): services refuse signatures that are too old or too new."
	} else if distance > clockWarning {
		health, remedy = Risky, "Synchronise the clocks (NTP)."
	}
	d.find("clock", health, remedy, "%v ahead of the server's, give or take %v", offset.Round(time.Millisecond), within.Round(time.Millisecond))
}

// files compares the limit of open files with what the settings need: short of it, no connection
// to a service can be made.
func (d *doctor) files() {
	limit, known := openFiles()
	switch need := uint64(max(d.Files, 0)); {
	case !known || need == 0:
	case limit < need:
		d.find("open files", Risky, fmt.Sprintf("Raise the hard limit to %d (ulimit -n, LimitNOFILE=), or lower ROLLCALL_SVC_<NAME>_CONCURRENCY.", need),
			"this process may open %d files; with all connections in use these settings need %d", limit, need)
	default:
		d.find("open files", Well, "", "this process may open %d, these settings need at most %d", limit, need)
	}
}

// trouble is what a replica says of a service whose calls it holds back.
type trouble struct {
	replica string
	jobs.ServiceState
}

// replicas asks the replicas of the pool for services in trouble: some cannot be called without a job,
// and the doctor itself would see nothing.
func (d *doctor) replicas(ctx context.Context, admin *Admin) {
	replicas, err := admin.Replicas(ctx)
	if err != nil {
		d.find("replicas", Unsure, lookAgain, "%v", err)
	}
	d.troubled = map[string]trouble{}
	for i := range replicas {
		for _, s := range replicas[i].Services {
			if s.Breaker != jobs.BreakerClosed && !d.troubled[s.Name].Misconfigured {
				d.troubled[s.Name] = trouble{replicas[i].Replica, s}
			}
		}
	}
}

// services asks all services at once.
func (d *doctor) services(ctx context.Context) {
	said, errs := make([]string, len(d.Dependencies)), make([]error, len(d.Dependencies))
	var wg sync.WaitGroup
	for i, dependency := range d.Dependencies {
		wg.Go(func() { said[i], errs[i] = dependency.Ask(ctx) })
	}
	wg.Wait()
	for i, err := range errs {
		name := "service " + d.Dependencies[i].Name
		seen, troubled := d.troubled[d.Dependencies[i].Name]
		switch {
		case (err == nil || errors.Is(err, ErrNotTried)) && troubled:
			health, remedy := Risky, "Look at the service; 'worker status' shows what the replicas see."
			if seen.Misconfigured {
				health, remedy = Broken, "Correct its ROLLCALL_SVC_… settings, or the service. Its jobs wait."
			}
			d.find(name, health, remedy, "%s; replica %s holds its calls back, last error at %s: %s",
				cmp.Or(said[i], "was not called"), seen.replica, seen.LastErrorAt.UTC().Format(time.RFC3339), seen.LastError)
		case err == nil:
			d.find(name, Well, "", "%s", said[i])
		case errors.Is(err, ErrNotTried):
			d.find(name, Unsure, "Publish a job and look at its event: worker publish --wait.", "%v", err)
		default:
			d.find(name, Broken, mend(err), "%v", err)
		}
	}
	if len(errs) == 0 {
		d.find("services", Broken, "Set ROLLCALL_SERVICES.", "none")
	}
}

// mend says what to do about a service that cannot be called.
func mend(err error) string {
	f, called := errors.AsType[*jobs.Failure](err)
	switch {
	case called && f.Misconfigured:
		return "Correct its URL in ROLLCALL_SERVICES or its ROLLCALL_SVC_… settings."
	case called && f.Code != 0:
		return "Look at the service: it answers, and takes no calls."
	default:
		return "Start the service, or correct its URL in ROLLCALL_SERVICES."
	}
}
