package service_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"rollcall/internal/jobs"
	"rollcall/internal/service"
)

// sample is the job that services are checked with.
func sample() service.Sample {
	return service.Sample{Data: []byte(`{"amount":100}`), BatchSize: 96, BatchBytes: jobs.MiB}
}

// events reads a call as a service would.
func events(r *http.Request) (list []struct {
	ID, Source, RollcallUID string
	Data                    json.RawMessage
}) {
	_ = json.NewDecoder(r.Body).Decode(&list)
	return list
}

// answerEach is a service that lists a result for every job; see gives its id and status.
func answerEach(see func(id, uid string, data []byte) (name, status string)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		results := []map[string]string{}
		for _, e := range events(r) {
			name, status := see(e.ID, e.RollcallUID, e.Data)
			results = append(results, map[string]string{"id": name, "status": status})
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"results": results})
	}
}

// okUnlessJunk fails a job without JSON, by its uid.
func okUnlessJunk(_, uid string, data []byte) (name, status string) {
	if len(data) == 0 {
		return uid, "fail"
	}
	return uid, "ok"
}

// behind lets only requests with a good signature through to h, and answers others with a status.
func behind(secret string, status int, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		key, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
		mac := hmac.New(sha256.New, key)
		_, _ = io.WriteString(mac, r.Header.Get("webhook-id")+"."+r.Header.Get("webhook-timestamp")+".")
		_, _ = mac.Write(body)
		sent, _ := strconv.ParseInt(r.Header.Get("webhook-timestamp"), 10, 64)
		if time.Since(time.Unix(sent, 0)) > 5*time.Minute || r.Header.Get("webhook-signature") != "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)) {
			w.WriteHeader(status)
			return
		}
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		h(w, r)
	}
}

// once is a service that refuses what it has had by 409, by the Idempotency-Key or by the job.
type once struct {
	mu   sync.Mutex
	seen map[string]bool
}

func (o *once) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, e := range events(r) {
		if o.seen[e.Source+e.ID] {
			w.WriteHeader(http.StatusConflict)
			return
		}
		o.seen[e.Source+e.ID] = true
	}
}

// checked runs the check and returns its findings by name. Of several of one name the worst counts.
func checked(t *testing.T, cfg service.Config, s service.Sample, url string) map[string]service.Finding {
	t.Helper()
	if cfg.Timeout == config().Timeout {
		cfg.Timeout = time.Hour // a busy machine is not a slow service
	}
	findings, err := service.Ref{Name: "billing", URL: url}.Check(t.Context(), cfg, service.Deps{Version: "1", RetryMax: time.Minute}, s)
	if err != nil {
		t.Fatal(err)
	}
	worst := map[service.Grade]int{service.Good: 1, service.Doubtful: 2, service.Wrong: 3}
	named := map[string]service.Finding{}
	for _, f := range findings {
		if f.Said == "" || f.Read == "" || f.Sent == "" {
			t.Errorf("a finding that says nothing: %+v", f)
		}
		if worst[f.Grade] > worst[named[f.Check].Grade] {
			named[f.Check] = f
		}
	}
	return named
}

// expect compares the findings with those that are wanted: "grade" or "grade: words". Others have to be good.
func expect(t *testing.T, got map[string]service.Finding, want map[string]string) {
	t.Helper()
	for check, f := range got {
		grade, words, _ := strings.Cut(want[check], ": ")
		if grade == "" {
			grade = string(service.Good)
		}
		if text := f.Said + " " + f.Read + " " + f.Advice; string(f.Grade) != grade || !strings.Contains(text, words) {
			t.Errorf("%s: got %s, %q; want %s with %q", check, f.Grade, text, grade, words)
		}
	}
	for check := range want {
		if _, found := got[check]; !found {
			t.Errorf("%s was not checked", check)
		}
	}
}

func TestCheckOfServicesForBatches(t *testing.T) {
	t.Parallel()
	status := func(code int, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			_, _ = io.WriteString(w, text)
		}
	}
	const reused = "warning: skips it"
	for name, test := range map[string]struct {
		service http.HandlerFunc
		want    map[string]string
	}{
		"good":        {answerEach(okUnlessJunk), map[string]string{"id used again": reused, "large body": "ok: done: 96 jobs", "time": "", "signature": "ok: everybody"}},
		"empty 200":   {status(200, ""), map[string]string{"sample": "ok: 200, empty", "id used again": reused, "poison job": "warning: takes any bytes", "two jobs, one id": "ok"}},
		"its own 200": {status(200, `{"queued":3}`), map[string]string{"sample": "ok: JSON of its own", "id used again": reused, "poison job": "warning"}},
		"all 500":     {status(500, "boom"), map[string]string{"empty batch": "warning", "sample": "error: boom"}},
		"login page":  {status(200, "<html>please log in</html>"), map[string]string{"empty batch": "warning", "sample": "error: cannot be read"}},
		"401":         {status(401, "who are you"), map[string]string{"empty batch": "error: a mistake in the settings"}},
		"wrong path":  {status(404, ""), map[string]string{"empty batch": "error: check the URL"}},
		"429":         {status(429, ""), map[string]string{"empty batch": "warning", "sample": "error: not now"}},
		"takes nothing": {status(422, "no amount"), map[string]string{"empty batch": "ok: at fault", "sample": "warning: give one that it takes",
			"poison job": "warning: halved", "id used again": reused}},
		"wrong ids": {answerEach(func(id, _ string, _ []byte) (string, string) { return "x" + id, "ok" }), map[string]string{
			"sample": "error: a job that was not in the call"}},
		"cuts ids": {answerEach(func(id, _ string, data []byte) (string, string) {
			_, status := okUnlessJunk(id, "", data)
			return id[:min(len(id), 60)], status
		}), map[string]string{"id used again": reused, "two jobs, one id": "warning: a request each", "unusual ids": "error: character by character"}},
		"poison takes all": {func(w http.ResponseWriter, r *http.Request) {
			for _, e := range events(r) {
				if len(e.Data) == 0 {
					w.WriteHeader(http.StatusInternalServerError)
				}
			}
		}, map[string]string{"poison job": "warning: its whole batch", "id used again": reused}},
		"poison breaks auth": {func(w http.ResponseWriter, r *http.Request) {
			for _, e := range events(r) {
				if len(e.Data) == 0 {
					w.WriteHeader(http.StatusForbidden)
				}
			}
		}, map[string]string{"poison job": "error: hold up all others", "id used again": reused}},
		"refuses what is done": {(&once{seen: map[string]bool{}}).ServeHTTP, map[string]string{"same request again": "error: answer ok for what is done",
			"second attempt": "error", "slow reply": "", "id used again": "error", "two jobs, one id": "error: by its rollcalluid", "poison job": "warning"}},
		"puts large ones off": {func(w http.ResponseWriter, r *http.Request) {
			see := okUnlessJunk
			if r.ContentLength > 100<<10 {
				see = func(_, uid string, _ []byte) (name, status string) { return uid, "retry" }
			}
			answerEach(see)(w, r)
		}, map[string]string{"large body": "warning: their size or number", "id used again": reused}},
		"small": {func(w http.ResponseWriter, r *http.Request) {
			if r.ContentLength > 100<<10 {
				w.WriteHeader(http.StatusRequestEntityTooLarge)
			}
		}, map[string]string{"large body": "error: ROLLCALL_BATCH_BYTES", "poison job": "warning", "id used again": reused}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := checked(t, config(), sample(), serve(t, test.service))
			// What a cut-off request did before it was cut off is the service's luck.
			if name == "refuses what is done" {
				delete(got, "slow reply")
				delete(test.want, "slow reply")
			}
			expect(t, got, test.want)
		})
	}
}

func TestCheckOfSignatures(t *testing.T) {
	t.Parallel()
	good := answerEach(okUnlessJunk)
	for name, test := range map[string]struct {
		service http.HandlerFunc
		grade   string
	}{
		"401":         {behind(secretA, 401, good), "ok: mistake in the settings"},
		"400":         {behind(secretA, 400, good), "error: dead letters: answer 401"},
		"500":         {behind(secretA, 500, good), "warning: answer 401"},
		"not checked": {good, "warning: that Rollcall did not send"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := config()
			cfg.Secret = jobs.NewSecret(secretA)
			expect(t, checked(t, cfg, sample(), serve(t, test.service)), map[string]string{
				"id used again": "warning", "wrong signature": test.grade, "no signature": test.grade, "old signature": test.grade,
			})
		})
	}
}

func TestCheckOfAToken(t *testing.T) {
	t.Parallel()
	cfg := config()
	cfg.Token = jobs.NewSecret("s3cret")
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer s3cret" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		answerEach(okUnlessJunk)(w, r)
	})
	expect(t, checked(t, cfg, sample(), url), map[string]string{"no token": "ok", "id used again": "warning", "signature": "ok"})
}

func TestCheckOfServicesForOneJob(t *testing.T) {
	t.Parallel()
	shop := func(w http.ResponseWriter, r *http.Request) {
		var order struct{ Amount *int }
		if json.NewDecoder(r.Body).Decode(&order) != nil || order.Amount == nil {
			w.WriteHeader(http.StatusUnprocessableEntity)
		}
	}
	for _, format := range []service.Format{service.FormatEvent, service.FormatPlain} {
		t.Run(format.String(), func(t *testing.T) {
			t.Parallel()
			url := serve(t, shop)
			expect(t, checked(t, formatted(format), sample(), url+"/{id}"), map[string]string{"id used again": "warning", "poison job": "ok: dead-lettered at once"})
			expect(t, checked(t, formatted(format), sample(), url+"/{data:/order}"), map[string]string{"sample": "error: fills the holes"})
		})
	}
	slow := formatted(service.FormatPlain)
	slow.Timeout = 100 * time.Millisecond
	hangs := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	})
	expect(t, checked(t, slow, sample(), hangs), map[string]string{"sample": "error: ROLLCALL_SVC_BILLING_TIMEOUT"})
}

// TestCheckShowsWhatASuccessSays has services whose 200 says that nothing was done, and what they were
// sent.
func TestCheckShowsWhatASuccessSays(t *testing.T) {
	t.Parallel()
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"status":"error","key":%q}`, r.Header.Get("X-Api-Key"))
	})
	for _, format := range []service.Format{service.FormatBatch, service.FormatEvent, service.FormatPlain} {
		t.Run(format.String(), func(t *testing.T) {
			t.Parallel()
			cfg := formatted(format, func(c *service.Config) { c.Headers = jobs.NewSecret("X-Api-Key:s3cret") })
			said := checked(t, cfg, sample(), url)["sample"].Said
			if !strings.Contains(said, `{"status":"error","key":"***"}`) {
				t.Errorf("it shows %q", said)
			}
		})
	}
}

func TestCheckSendsNoMoreJobsThanABatchHolds(t *testing.T) {
	t.Parallel()
	single := sample()
	single.BatchSize = 1
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if list := events(r); len(list) > 1 {
			t.Errorf("a call for %d jobs", len(list))
		}
	})
	expect(t, checked(t, config(), single, url), map[string]string{"id used again": "warning", "poison job": "warning", "large body": "ok: 1 job"})
}

func TestCheckRefusesASampleThatNoPoolWouldSend(t *testing.T) {
	t.Parallel()
	url := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("the service was called") })
	routed := config()
	routed.Subjects = []string{"jobs.order.>"}
	for name, edit := range map[string]func(*service.Sample){
		"a subject of others": func(s *service.Sample) { s.Subject = "jobs.mail" },
		"no deadline":         func(s *service.Sample) { s.Header = map[string][]string{"Rollcall-Deadline": {"soon"}} },
	} {
		s := sample()
		edit(&s)
		if _, err := (service.Ref{Name: "billing", URL: url}).Check(t.Context(), routed, service.Deps{}, s); !errors.Is(err, service.ErrSample) {
			t.Errorf("%s: got %v, want ErrSample", name, err)
		}
	}
}
