package bus

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"rollcall/internal/jobs"
)

// Config says how to reach NATS. The variables are those of the nats CLI.
type Config struct {
	URL      string      `envconfig:"NATS_URL" default:"nats://127.0.0.1:4222" desc:"NATS servers, separated by commas"`
	Creds    string      `envconfig:"NATS_CREDS" desc:"credentials file of a user"`
	NKey     string      `envconfig:"NATS_NKEY" desc:"file with the nkey seed of a user"`
	User     string      `envconfig:"NATS_USER" desc:"user name, or a token if there is no password"`
	Password jobs.Secret `envconfig:"NATS_PASSWORD" desc:"password of NATS_USER" secret:"true"`
	Token    jobs.Secret `envconfig:"NATS_TOKEN" desc:"authorization token" secret:"true"`
	// The login of operators, which [Config.Operator] puts in the place of the one above.
	OpsCreds    string      `envconfig:"NATS_OPS_CREDS" desc:"credentials file for all commands but run, doctor and probe, where operators have a user of their own"`
	OpsUser     string      `envconfig:"NATS_OPS_USER" desc:"user name for these commands"`
	OpsPassword jobs.Secret `envconfig:"NATS_OPS_PASSWORD" desc:"password of NATS_OPS_USER" secret:"true"`
	CA          string      `envconfig:"NATS_CA" desc:"certificates of the authorities to trust, PEM"`
	Cert        string      `envconfig:"NATS_CERT" desc:"client certificate, PEM"`
	Key         string      `envconfig:"NATS_KEY" desc:"key of NATS_CERT, PEM"`

	JSDomain    string `envconfig:"NATS_JS_DOMAIN" desc:"JetStream domain, where it is another than that of the server that is connected to"`
	JSAPIPrefix string `envconfig:"NATS_JS_API_PREFIX" desc:"first tokens of the subjects of the JetStream API, where an account imports it under others than $JS.API"`

	// Horizon is how long a commit is refused that was overtaken, ROLLCALL_ZOMBIE_HORIZON. So
	// nothing may be under way for longer than half of it. Zero = long.
	Horizon time.Duration `ignored:"true"`
}

// within returns the part of the horizon that a wait may take, at least a second.
func (c Config) within(part, most time.Duration) time.Duration {
	if c.Horizon == 0 {
		return most
	}
	return min(max(c.Horizon/part, minWait), most)
}

// Operator returns the settings with the login of operators, if there is one.
func (c Config) Operator() Config {
	if c.OpsCreds != "" || c.OpsUser != "" {
		c.Creds, c.User, c.Password = c.OpsCreds, c.OpsUser, c.OpsPassword
		c.NKey, c.Token = "", jobs.Secret{}
	}
	return c
}

// Validate returns every fault of the settings, joined; each names its variable.
func (c Config) Validate() error {
	var faults []error
	if strings.Trim(c.URL, ", ") == "" {
		faults = append(faults, errors.New("NATS_URL is empty; set it to nats://host:4222"))
	}
	if slices.ContainsFunc(strings.Split(c.URL, ","), unusableServer) {
		// The list is masked as a whole: a comma may stand in a password.
		faults = append(faults, fmt.Errorf("NATS_URL is %q, want nats://host:4222, or a list of such with commas; tls://, ws:// and wss:// where the server wants them", jobs.MaskURLs(c.URL)))
	}
	if (c.Cert == "") != (c.Key == "") {
		faults = append(faults, errors.New("NATS_CERT and NATS_KEY belong together; set both or neither"))
	}
	if !c.Password.IsZero() && c.User == "" {
		faults = append(faults, errors.New("NATS_PASSWORD is set without NATS_USER"))
	}
	if !c.OpsPassword.IsZero() && c.OpsUser == "" {
		faults = append(faults, errors.New("NATS_OPS_PASSWORD is set without NATS_OPS_USER"))
	}
	if c.OpsCreds != "" && c.OpsUser != "" {
		faults = append(faults, errors.New("NATS_OPS_CREDS and NATS_OPS_USER are different ways to log in; keep one of them"))
	}
	var ways []string
	for _, way := range []struct {
		name string
		used bool
	}{{"NATS_CREDS", c.Creds != ""}, {"NATS_NKEY", c.NKey != ""}, {"NATS_USER", c.User != ""}, {"NATS_TOKEN", !c.Token.IsZero()}} {
		if way.used {
			ways = append(ways, way.name)
		}
	}
	if c.JSDomain != "" && c.JSAPIPrefix != "" {
		faults = append(faults, errors.New("NATS_JS_DOMAIN and NATS_JS_API_PREFIX are different ways to say where JetStream is; keep one of them"))
	}
	if strings.ContainsAny(c.JSDomain, ".*> \t\r\n") {
		faults = append(faults, fmt.Errorf("NATS_JS_DOMAIN is %q, want one name without dots, blanks and wildcards", c.JSDomain))
	}
	if prefix := strings.TrimSuffix(c.JSAPIPrefix, "."); prefix != "" && jobs.CheckSubject(prefix) != nil {
		faults = append(faults, fmt.Errorf("NATS_JS_API_PREFIX is %q, want the first tokens of a subject, without wildcards, for example $JS.hub.API", c.JSAPIPrefix))
	}
	if len(ways) > 1 {
		faults = append(faults, fmt.Errorf("%s are different ways to log in; keep one of them", strings.Join(ways, ", ")))
	}
	return errors.Join(faults...)
}

// unusableServer reports whether no client could connect to an address, as it is written. One
// without a scheme is taken for nats://; an empty entry of a list is let through.
func unusableServer(address string) bool {
	if address = strings.TrimSpace(address); address == "" {
		return false
	}
	if !strings.Contains(address, "://") {
		address = "nats://" + address
	}
	u, err := url.Parse(address)
	return err != nil || u.Hostname() == "" || !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme) || !jobs.ValidPort(u.Port())
}

// The two kinds of source.
const (
	SourceJetStream = "jetstream"
	SourceCore      = "core"
)

// The places where a new consumer may begin.
const (
	StartAll = "all"
	StartNew = "new"
)

// Streams says where jobs come from, and how streams and consumer are made.
type Streams struct {
	Source        string        `envconfig:"ROLLCALL_SOURCE" default:"jetstream" desc:"jetstream, or core for subjects without a stream (at most once)"`
	Subjects      []string      `envconfig:"ROLLCALL_SUBJECTS" default:"jobs.>" desc:"subjects to take jobs from, separated by commas"`
	Stream        string        `envconfig:"ROLLCALL_STREAM" default:"JOBS" desc:"stream that holds the jobs"`
	Start         string        `envconfig:"ROLLCALL_START" desc:"all or new: where a new consumer begins in a stream that keeps what is done; must be said where that holds messages already; else all"`
	Ensure        bool          `envconfig:"ROLLCALL_ENSURE" default:"true" desc:"replicas create missing streams and consumer at their start; existing ones are never changed"`
	Replicas      int           `envconfig:"ROLLCALL_REPLICAS" default:"1" desc:"replicas of the streams that are created, 1, 3 or 5"`
	Done          string        `envconfig:"ROLLCALL_DONE" default:"shared" desc:"shared: all pools keep events and ledger in DONE; own: each in a stream DONE_<pool>, with a disk queue of its own; the same for all pools of an account"`
	StreamBytes   jobs.Size     `envconfig:"ROLLCALL_STREAM_BYTES" desc:"max bytes of the job stream when it is created; beyond it the broker refuses jobs (10077); empty = no limit"`
	LaterBytes    jobs.Size     `envconfig:"ROLLCALL_LATER_BYTES" desc:"max bytes of the stream LATER when it is created, for accounts that demand a limit; beyond it the oldest delayed jobs are deleted; empty = no limit"`
	DoneAge       time.Duration `envconfig:"ROLLCALL_DONE_AGE" default:"24h" desc:"how long completion events are kept"`
	DoneBytes     jobs.Size     `envconfig:"ROLLCALL_DONE_BYTES" desc:"max bytes of the stream DONE when it is created; beyond it commits wait; empty = no limit"`
	DeadAge       time.Duration `envconfig:"ROLLCALL_DEAD_AGE" default:"720h" desc:"how long dead letters are kept, when the stream DEAD is created; 0 = for ever"`
	DeadBytes     jobs.Size     `envconfig:"ROLLCALL_DEAD_BYTES" desc:"max bytes of the stream DEAD when it is created; beyond it the oldest dead letters are deleted; empty = no limit"`
	AckWait       time.Duration `envconfig:"ROLLCALL_ACK_WAIT" default:"30s" desc:"lease of a job; it is renewed every third of it while the job is held"`
	LedgerTTL     time.Duration `envconfig:"ROLLCALL_LEDGER_TTL" default:"24h" desc:"how long a job whose ack was lost is still recognised as done"`
	SetMaxAge     time.Duration `envconfig:"ROLLCALL_SET_MAX_AGE" default:"24h" desc:"age at which a set that is not complete ends as abandoned"`
	ZombieHorizon time.Duration `envconfig:"ROLLCALL_ZOMBIE_HORIZON" default:"10m" desc:"how long a stalled worker may sleep and still be refused"`
}

const (
	// minWait is what a busy machine, or a collector of garbage, may take.
	minWait    = time.Second
	minAckWait = time.Second
	// minDoneAge is the shortest message TTL that the server knows; maxAge bounds all ages: what
	// is longer overflows nanoseconds somewhere on the way.
	minDoneAge = time.Second
	maxAge     = 10 * 365 * 24 * time.Hour
	// minStreamBytes is too small for anything but a test; maxStreamBytes is more than any
	// server stores.
	minStreamBytes = 1 * jobs.KiB
	maxStreamBytes = 1 << 20 * jobs.GiB
	minHorizon     = time.Second
	maxAckWait     = time.Hour
	maxHorizon     = 7 * 24 * time.Hour
	maxLedgerTTL   = 365 * 24 * time.Hour
	// maxName bounds stream names; the server takes longer ones, files named after them do not.
	maxName = 64
)

// tallyLives is how many times its greatest age a set's tally is kept, in case that nobody is
// there to end the set.
const tallyLives = 3

// TallyTTL is how long what is counted of a set is kept that nobody ends.
func (s Streams) TallyTTL() time.Duration { return tallyLives * s.SetMaxAge }

// Validate returns every fault of the settings, joined; each names its variable.
func (s Streams) Validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if s.Source != SourceJetStream && s.Source != SourceCore {
		fault("ROLLCALL_SOURCE is %q, want jetstream or core", s.Source)
	}
	if len(s.Subjects) == 0 {
		fault("ROLLCALL_SUBJECTS is empty; set it to jobs.>")
	}
	for i, subject := range s.Subjects {
		if err := jobs.CheckFilter(subject); err != nil {
			fault("ROLLCALL_SUBJECTS holds %q, which is not a NATS subject: %w", subject, err)
		}
		for j, other := range s.Subjects {
			if i != j && jobs.SubjectCovers(other, subject) && (i > j || !jobs.SubjectCovers(subject, other)) {
				fault("ROLLCALL_SUBJECTS holds %q and %q, which covers it: keep one", subject, other)
			}
		}
	}
	if s.Stream == "" || len(s.Stream) > maxName || strings.ContainsAny(s.Stream, ".*> \t\r\n/\\") {
		fault("ROLLCALL_STREAM is %q, want 1 to %d characters without dots, blanks, wildcards and slashes", s.Stream, maxName)
	}
	if s.Stream == StreamDead || s.Stream == StreamLater {
		fault("ROLLCALL_STREAM is %s, which Rollcall itself writes to", s.Stream)
	}
	if s.Start != "" && s.Start != StartAll && s.Start != StartNew {
		fault("ROLLCALL_START is %q, want all or new", s.Start)
	}
	if s.Done != "" && s.Done != DoneShared && s.Done != DoneOwn {
		fault("ROLLCALL_DONE is %q, want shared or own", s.Done)
	}
	if s.Replicas != 1 && s.Replicas != 3 && s.Replicas != 5 {
		fault("ROLLCALL_REPLICAS is %d, want 1, 3 or 5", s.Replicas)
	}
	faults = append(faults, s.validateLimits())
	if s.AckWait < minAckWait || s.AckWait > maxAckWait {
		fault("ROLLCALL_ACK_WAIT is %v, want %v to %v", s.AckWait, minAckWait, maxAckWait)
	}
	if s.ZombieHorizon < minHorizon || s.ZombieHorizon > maxHorizon {
		fault("ROLLCALL_ZOMBIE_HORIZON is %v, want %v to %v", s.ZombieHorizon, minHorizon, maxHorizon)
	} else if s.LedgerTTL < s.ZombieHorizon || s.LedgerTTL > maxLedgerTTL {
		fault("ROLLCALL_LEDGER_TTL is %v, want ROLLCALL_ZOMBIE_HORIZON (%v) to %v", s.LedgerTTL, s.ZombieHorizon, maxLedgerTTL)
	}
	return errors.Join(faults...)
}

// validateLimits returns the faults of ages and sizes.
func (s *Streams) validateLimits() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	for _, limit := range []struct {
		name  string
		bytes jobs.Size
	}{
		{"ROLLCALL_STREAM_BYTES", s.StreamBytes}, {"ROLLCALL_LATER_BYTES", s.LaterBytes},
		{"ROLLCALL_DONE_BYTES", s.DoneBytes}, {"ROLLCALL_DEAD_BYTES", s.DeadBytes},
	} {
		if limit.bytes != 0 && (limit.bytes < minStreamBytes || limit.bytes > maxStreamBytes) {
			fault("%s is %d, want %d to %d bytes, or nothing for no limit", limit.name, limit.bytes, minStreamBytes, maxStreamBytes)
		}
	}
	if s.SetMaxAge < minDoneAge || s.SetMaxAge > maxAge {
		fault("ROLLCALL_SET_MAX_AGE is %v, want %v to %v", s.SetMaxAge, minDoneAge, maxAge)
	}
	if s.DoneAge < minDoneAge || s.DoneAge > maxAge {
		fault("ROLLCALL_DONE_AGE is %v, want %v to %v", s.DoneAge, minDoneAge, maxAge)
	}
	if s.DeadAge < 0 || s.DeadAge > maxAge || s.DeadAge > 0 && s.DeadAge < time.Second {
		fault("ROLLCALL_DEAD_AGE is %v, want 1s to %v, or 0 for ever", s.DeadAge, maxAge)
	}
	return errors.Join(faults...)
}
