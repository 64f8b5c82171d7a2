package composetest_test

import (
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/google/go-cmp/cmp"

	"rollcall/internal/app"
)

func TestEveryContainerIsHardened(t *testing.T) {
	t.Parallel()
	for name, s := range load(t).Services {
		if !s.ReadOnly {
			t.Errorf("%s can write to its root file system: read_only", name)
		}
		if !slices.Equal(s.CapDrop, []string{"ALL"}) || len(s.CapAdd) > 0 || s.Privileged {
			t.Errorf("%s keeps capabilities: cap_drop: [ALL], got %v + %v", name, s.CapDrop, s.CapAdd)
		}
		if !slices.Contains(s.SecurityOpt, "no-new-privileges:true") {
			t.Errorf("%s may gain privileges: no-new-privileges", name)
		}
		if s.Logging == nil || s.Logging.Options["max-size"] == "" || s.Logging.Options["max-file"] == "" {
			t.Errorf("%s can fill the disk with its log", name)
		}
		if s.Restart == "" {
			t.Errorf("%s does not say whether it is restarted", name)
		}
		if s.NetworkMode != "" || s.Pid != "" || s.Ipc != "" || len(s.Devices) > 0 {
			t.Errorf("%s reaches into the host", name)
		}
		if s.ContainerName != "" {
			t.Errorf("%s has a container name, so it cannot be scaled", name)
		}
	}
}

func TestEveryServiceThatStaysHasBoundedMemory(t *testing.T) {
	t.Parallel()
	for name, s := range load(t).Services {
		if s.StdinOpen {
			continue // a person's shell
		}
		if s.Deploy == nil || s.Deploy.Resources.Limits == nil || s.Deploy.Resources.Limits.MemoryBytes == 0 {
			t.Errorf("%s has no limit on memory", name)
		}
	}
}

func TestPortsAreOnLoopback(t *testing.T) {
	t.Parallel()
	for name, s := range load(t).Services {
		for _, p := range s.Ports {
			if p.HostIP != "127.0.0.1" {
				t.Errorf("%s publishes %s on %q, want 127.0.0.1", name, p.Published, p.HostIP)
			}
		}
	}
}

func TestImagesArePinned(t *testing.T) {
	t.Parallel()
	p := load(t)
	for name, s := range p.Services {
		_, tag, tagged := strings.Cut(s.Image[strings.LastIndex(s.Image, "/")+1:], ":")
		if !tagged || tag == "latest" {
			t.Errorf("%s runs %s: which version is that?", name, s.Image)
		}
		if (s.Build != nil) != (name == "worker") {
			t.Errorf("%s: worker builds the image, and nobody else", name)
		}
	}
	if got := len(ours(p)); got != 6 {
		t.Errorf("%d services run our image, want setup, worker, fast, steady, flaky, producer", got)
	}
}

func TestOurContainersAreNotRoot(t *testing.T) {
	t.Parallel()
	for _, s := range ours(load(t)) {
		if s.User != "65532:65532" {
			t.Errorf("%s runs as %q", s.Name, s.User)
		}
		// `up --wait` refuses a container whose check is disabled, and is content with one that
		// has none and runs.
		if s.Name != "worker" && s.HealthCheck != nil {
			t.Errorf("%s has a health check, and nothing that answers it", s.Name)
		}
	}
}

func TestWorkerCanBeScaled(t *testing.T) {
	t.Parallel()
	worker := load(t).Services["worker"]
	if got := worker.GetScale(); got != 2 {
		t.Errorf("%d replicas, want 2", got)
	}
	for _, p := range worker.Ports {
		if !strings.Contains(p.Published, "-") {
			t.Errorf("port %s belongs to one replica only, want a range", p.Published)
		}
	}
	if got := load(t, "WORKER_REPLICAS=7").Services["worker"]; got.GetScale() != 7 {
		t.Errorf("WORKER_REPLICAS=7 gives %d replicas", got.GetScale())
	}
}

func TestWorkerHasTimeToDrain(t *testing.T) {
	t.Parallel()
	worker := load(t).Services["worker"]
	cfg, err := app.LoadRun(environ(worker))
	if err != nil {
		t.Fatal(err)
	}
	if grace := time.Duration(*worker.StopGracePeriod); grace < cfg.DrainTimeout+5*time.Second {
		t.Errorf("killed after %s, although the drain may take %s", grace, cfg.DrainTimeout)
	}
}

func TestWorkerIsProbed(t *testing.T) {
	t.Parallel()
	check := load(t).Services["worker"].HealthCheck
	if want := (types.HealthCheckTest{"CMD", "/worker", "probe"}); !slices.Equal(check.Test, want) {
		t.Errorf("got %v, want %v: the image has no shell", check.Test, want)
	}
	// Engines before 25 refuse a file with start_interval.
	if check.StartInterval != nil {
		t.Error("start_interval keeps the file from working on older engines")
	}
}

func TestNothingStartsBeforeWhatItNeeds(t *testing.T) {
	t.Parallel()
	p := load(t)
	const healthy, done = types.ServiceConditionHealthy, types.ServiceConditionCompletedSuccessfully
	for _, want := range []struct{ service, needs, condition string }{
		{"setup", "nats", healthy},
		{"worker", "nats", healthy},
		// Without a service that waits for it, `up --wait` takes the end of setup for a failure.
		{"worker", "setup", done},
		{"producer", "setup", done},
	} {
		got, found := p.Services[want.service].DependsOn[want.needs]
		if !found || got.Condition != want.condition || !got.Required {
			t.Errorf("%s does not wait until %s is %s", want.service, want.needs, want.condition)
		}
		if got.Restart {
			t.Errorf("a restart of %s takes %s down with it", want.needs, want.service)
		}
	}
}

func TestEverySettingIsOneThatTheWorkerKnows(t *testing.T) {
	t.Parallel()
	for _, s := range ours(load(t)) {
		if _, err := app.Load(environ(s)); err != nil {
			t.Errorf("%s: %v", s.Name, err)
		}
	}
}

func TestSetupReplicasAndProducerMeanTheSamePool(t *testing.T) {
	t.Parallel()
	p := load(t, "ROLLCALL_POOL=mail", "ROLLCALL_SUBJECTS=jobs.mail", "ROLLCALL_REPLICAS=3", "ROLLCALL_DONE_BYTES=7GiB", "NATS_URL=nats://elsewhere:4222")
	worker, err := app.LoadRun(environ(p.Services["worker"]))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"setup", "producer"} {
		other, err := app.Load(environ(p.Services[name]))
		if err != nil {
			t.Fatal(err)
		}
		// Whoever is on call runs setup in a replica's container, where replicas themselves make nothing.
		streams := worker.Streams
		streams.Ensure = other.Streams.Ensure
		if other.NATS.URL != worker.NATS.URL || other.Pool != worker.Pool || !cmp.Equal(other.Streams, streams) {
			t.Errorf("%s and worker mean different pools:\n%+v\n%+v", name, other, worker)
		}
	}
}

// Otherwise a stream or a password in .env would reach the workers alone, and setup would make
// the wrong stream or none.
func TestSetupReplicasAndProducerGetTheWholeOfDotEnv(t *testing.T) {
	t.Parallel()
	p := load(t)
	for _, name := range []string{"setup", "worker", "producer"} {
		s := p.Services[name]
		if len(s.EnvFiles) != 1 || filepath.Base(s.EnvFiles[0].Path) != ".env" || s.EnvFiles[0].Required {
			t.Errorf("%s reads %v, want .env where there is one", name, s.EnvFiles)
		}
		// A setting of one service is a fault where no service has that name.
		if _, err := app.Load(append(environ(s), "ROLLCALL_SVC_FLAKY_TIMEOUT=5s")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhatTheWorkerCallsIsThere(t *testing.T) {
	t.Parallel()
	p := load(t)
	for entry := range strings.SplitSeq(*p.Services["worker"].Environment["ROLLCALL_SERVICES"], ",") {
		name, address, _ := strings.Cut(entry, "=")
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		service, found := p.Services[u.Hostname()]
		if listen := fmt.Sprintf("--%s=:%s", name, u.Port()); !found || !slices.Contains(service.Command, listen) {
			t.Errorf("%s is called at %s, but no service %s runs with %s", name, address, u.Hostname(), listen)
		}
	}
}

func TestProfiles(t *testing.T) {
	t.Parallel()
	got := map[string][]string{}
	for name, s := range load(t).Services {
		for _, profile := range append(s.Profiles, "default")[:1] {
			got[profile] = append(got[profile], name)
		}
	}
	for _, names := range got {
		slices.Sort(names)
	}
	want := map[string][]string{
		"default":       {"fast", "flaky", "nats", "producer", "setup", "steady", "worker"},
		"cluster":       {"nats-2", "nats-3"},
		"observability": {"grafana", "prometheus"},
		"tools":         {"nats-box"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestDataIsInNamedVolumesAndFilesOfTheRepositoryAreReadOnly(t *testing.T) {
	t.Parallel()
	p := load(t)
	for name, s := range p.Services {
		for _, v := range s.Volumes {
			switch v.Type {
			case types.VolumeTypeBind:
				if !v.ReadOnly {
					t.Errorf("%s can write to %s", name, v.Source)
				}
				if _, err := os.Stat(v.Source); err != nil {
					t.Errorf("%s mounts what the repository does not have, and Docker would make a directory of it: %v", name, err)
				}
			case types.VolumeTypeVolume:
				if _, declared := p.Volumes[v.Source]; !declared {
					t.Errorf("%s keeps %s in a volume that `down --volumes` does not know", name, v.Target)
				}
			}
		}
	}
}

func TestClusterHasThreeNodesThatKnowEachOther(t *testing.T) {
	t.Parallel()
	p := load(t, assignments(t, "deploy/cluster.env", false)...)
	cfg, err := app.LoadRun(environ(p.Services["worker"]))
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Streams.Replicas != 3 {
		t.Errorf("streams have %d replicas", cfg.Streams.Replicas)
	}
	urls := strings.Split(cfg.NATS.URL, ",")
	if len(urls) != 3 {
		t.Fatalf("the workers know %v", urls)
	}
	names, stores := map[string]bool{}, map[string]bool{}
	for _, address := range urls {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		node := p.Services[u.Hostname()]
		i := slices.Index(node.Command, "--config")
		if i < 0 {
			t.Fatalf("%s is no node", address)
		}
		conf, err := os.ReadFile(filepath.Join(root, "deploy/nats", filepath.Base(node.Command[i+1])))
		if err != nil {
			t.Fatal(err)
		}
		if route := "nats://" + u.Hostname() + ":6222"; !strings.Contains(string(conf), `"`+route+`"`) {
			t.Errorf("no node has a route to %s", route)
		}
		names[*node.Environment["NATS_NAME"]] = true
		for _, v := range node.Volumes {
			if v.Target == "/data" {
				stores[v.Source] = true
			}
		}
	}
	if len(names) != 3 || len(stores) != 3 {
		t.Errorf("nodes share names or stores: %v, %v", slices.Collect(maps.Keys(names)), slices.Collect(maps.Keys(stores)))
	}
}

func TestChangesOfTheCodeRebuildTheImage(t *testing.T) {
	t.Parallel()
	worker := load(t).Services["worker"]
	if worker.Develop == nil {
		t.Fatal("`docker compose watch` watches nothing")
	}
	var watched []string
	for _, w := range worker.Develop.Watch {
		if w.Action != types.WatchActionRebuild {
			t.Errorf("%s: %s does nothing for a static binary", w.Path, w.Action)
		}
		watched = append(watched, filepath.Base(w.Path))
	}
	if want := []string{"cmd", "internal", "go.mod"}; !slices.Equal(watched, want) {
		t.Errorf("watched are %v, want %v", watched, want)
	}
}
