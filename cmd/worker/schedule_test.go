package main

import (
	"strings"
	"testing"
	"time"

	"rollcall/internal/faulttest"
	"rollcall/internal/operate"
)

func TestSchedule_IsSetListedRunAndRemoved(t *testing.T) {
	t.Parallel()
	env := prepared(t)
	wants(t, worker(t, env, "schedule", "ls"), codeOK, "No schedules.")
	wants(t, worker(t, env, "schedule", "set", "nightly", "jobs.report", "sales", "--cron", "0 0 3 * * *", "--tz", "Europe/Berlin", "--header", "X-Tenant:4"), codeOK, "nightly is set")
	wants(t, worker(t, env, "schedule", "set", "pulse", "jobs.ping", "--every", "5m"), codeOK)
	wants(t, worker(t, env, "schedule", "set", "launch", "jobs.mail", "--at", "48h"), codeOK)
	wants(t, worker(t, env, "schedule", "set", "pulse", "jobs.ping", "--every", "10m"), codeOK)

	list := decode[[]operate.Schedule](t, worker(t, env, "schedule", "ls", "-o", "json"))
	found := map[string]operate.Schedule{}
	for _, s := range list {
		found[s.Name] = s
	}
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	nightly := found["nightly"]
	if at := nightly.Next.In(berlin); len(list) != 3 || nightly.Subject != "jobs.report" || at.Hour() != 3 || at.Minute() != 0 || !nightly.Last.IsZero() {
		t.Errorf("nightly of %d: %+v", len(list), nightly)
	}
	if pulse := found["pulse"]; pulse.Pattern != "@every 10m0s" || time.Until(pulse.Next) > 10*time.Minute+time.Second {
		t.Errorf("pulse: %+v", pulse)
	}
	if launch := found["launch"]; time.Until(launch.Next) < 47*time.Hour || time.Until(launch.Next) > 49*time.Hour {
		t.Errorf("launch: %+v", launch)
	}

	wants(t, worker(t, env, "schedule", "run", "nightly"), codeOK, ".1")
	job := stored(t, env)[0]
	if job.Subject != "jobs.report" || string(job.Data) != "sales" || job.Header.Get("X-Tenant") != "4" || job.Header.Get("Nats-Schedule") != "" {
		t.Errorf("the job of a run: %s %q %v", job.Subject, job.Data, job.Header)
	}
	wants(t, worker(t, env, "schedule", "rm", "nightly"), codeOK, "removed")
	wants(t, worker(t, env, "schedule", "rm", "nightly"), codeNotFound, "worker schedule ls")
	wants(t, worker(t, env, "schedule", "run", "nightly"), codeNotFound, "not found")
}

func TestSchedule_ItsJobsAreDone(t *testing.T) {
	t.Parallel()
	url := broker(t)
	env := []string{"NATS_URL=" + url}
	service := faulttest.StartRecorder(t, "mail")
	replica := start(t, url, []*faulttest.Recorder{service})
	replica.until("/readyz", 200)
	wants(t, worker(t, env, "schedule", "set", "tick", "jobs.tick", `{"n":1}`, "--every", "1s"), codeOK)
	faulttest.Until(t, limit, "the schedule fired twice", func() bool { return len(service.Calls()) >= 2 })
	calls := service.Calls()
	if calls[0].UID == calls[1].UID {
		t.Errorf("the same job twice: %+v", calls[:2])
	}
	if list := decode[[]operate.Schedule](t, worker(t, env, "schedule", "ls", "-o", "json")); list[0].Last.IsZero() {
		t.Errorf("a schedule that has fired: %+v", list[0])
	}
	if code := replica.stopped(); code != codeOK {
		t.Errorf("exit %d", code)
	}
}

func TestSchedule_FaultsSayWhatToWrite(t *testing.T) {
	t.Parallel()
	env := prepared(t)
	for args, want := range map[string]string{
		"a jobs.x":                       "give one of --cron, --every and --at",
		"a jobs.x --every 1s --at 1h":    "give one of",
		"a jobs.x --every 1ms":           "1s or more",
		"a other.x --every 1s":           "only jobs on jobs.>",
		"a.b jobs.x --every 1s":          "1 to 64 letters",
		"a jobs.x --every 1s --tz UTC":   "--tz is for --cron",
		"a jobs.x --cron @daily --tz No": "Europe/Berlin",
		"a jobs.x --cron @never":         "six fields",
		"a jobs.x --at soon":             "--at",
	} {
		got := worker(t, env, append([]string{"schedule", "set"}, strings.Fields(args)...)...)
		wants(t, got, codeUsage, want)
	}
	wants(t, worker(t, env, "schedule", "set", "a", "jobs.x", "--cron", "0 3 * * *"), codeUsage, `write "0 0 3 * * *"`)
	wants(t, worker(t, env, "schedule", "set", "a", "jobs.x", "--every", "1s", "--header", "Nats-Rollup:all"), codeFailed, "orders to the server")
}

func TestPublish_UniqueIsRefusedWhileOneIsOpen(t *testing.T) {
	t.Parallel()
	env := prepared(t)
	wants(t, worker(t, env, "publish", "jobs.sync", "{}", "--unique", "tenant-4"), codeOK, "jobs.sync.tenant-4")
	wants(t, worker(t, env, "publish", "jobs.sync", "{}", "--unique", "tenant-4"), codeOK, "a job of the key tenant-4 is open")
	wants(t, worker(t, env, "publish", "jobs.sync", "{}", "--unique", "tenant-4", "--wait", "--timeout", limit.String()), codeOK, "is open")
	wants(t, worker(t, env, "publish", "jobs.sync", "{}", "--unique", "tenant-4", "--strict"), codeFailed, "a job of this key is open")
	wants(t, worker(t, env, "publish", "jobs.sync", "{}", "--unique", "tenant-5"), codeOK, "jobs.sync.tenant-5")
	if n := len(stored(t, env)); n != 2 {
		t.Errorf("%d jobs are stored, want 2", n)
	}
}

func TestPublish_UniqueIsFreeAgainOnceItHasEnded(t *testing.T) {
	t.Parallel()
	url := broker(t)
	env := []string{"NATS_URL=" + url}
	replica := start(t, url, []*faulttest.Recorder{faulttest.StartRecorder(t, "mail")})
	replica.until("/readyz", 200)
	for range 2 {
		wants(t, worker(t, env, "publish", "jobs.sync", "{}", "--unique", "tenant-4", "--wait"), codeOK, "succeeded")
		faulttest.Until(t, limit, "the job has left its stream", func() bool { return waitingJobs(t, url) == 0 })
	}
	if code := replica.stopped(); code != codeOK {
		t.Errorf("exit %d", code)
	}
}

// waitingJobs is how many jobs are in their stream.
func waitingJobs(t *testing.T, url string) uint64 {
	t.Helper()
	stream, err := streams(t, url).Stream(t.Context(), "JOBS")
	if err != nil {
		t.Fatal(err)
	}
	return stream.CachedInfo().State.Msgs
}

func TestPublish_DebounceKeepsTheNewest(t *testing.T) {
	t.Parallel()
	url := broker(t)
	env := []string{"NATS_URL=" + url}
	service := faulttest.StartRecorder(t, "mail")
	bodies := make(chan string, 10) // more than are sent
	service.Answer(faulttest.Each(func(a faulttest.Asked) string {
		bodies <- string(a.Data)
		return "ok"
	}))
	replica := start(t, url, []*faulttest.Recorder{service})
	replica.until("/readyz", 200)
	for _, body := range []string{"1", "2", "3"} {
		wants(t, worker(t, env, "publish", "jobs.reindex", body, "--debounce", "tenant-4", "--delay", "2s"), codeOK, "later.debounce.tenant-4")
	}
	first := <-bodies
	wants(t, worker(t, env, "publish", "jobs.other", "4", "--wait"), codeOK)
	if second := <-bodies; first != "3" || second != "4" {
		t.Errorf("called with %q and %q, want the newest of the burst, and the other job", first, second)
	}
	if code := replica.stopped(); code != codeOK {
		t.Errorf("exit %d", code)
	}
}

func TestPublish_SetsAreHeaders(t *testing.T) {
	t.Parallel()
	env := prepared(t)
	wants(t, worker(t, env, "publish", "jobs.row", "{}", "--set", "import-7", "--set-size", "5"), codeOK)
	if h := stored(t, env)[0].Header; h.Get("Rollcall-Set") != "import-7" || h.Get("Rollcall-Set-Size") != "5" {
		t.Errorf("headers %v", h)
	}
	for args, want := range map[string]string{
		"--set a.b": "1 to 64 letters", "--set-size 3": "give --set too", "--set a --set-size -1": "1 or more",
		"--set a --set-size 0": "1 or more", "--delay 1s --id cron.night": "want another id", "--delay 1s --id debounce.a": "want another id",
		"--unique a --debounce b": "keep one", "--debounce a": "needs --delay", "--unique a --delay 1s": "--debounce",
		"--unique a.": "becomes part of the subject", "--strict": "is for --unique", "--unique a --count 2": "for one job",
	} {
		wants(t, worker(t, env, append([]string{"publish", "jobs.row", "{}"}, strings.Fields(args)...)...), codeUsage, want)
	}
}
