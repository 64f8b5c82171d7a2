package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"rollcall/internal/jobs"
)

// Prober knows how the worker is.
type Prober interface {
	// Alive reports whether the worker's loop runs. It says nothing of the broker: a restart
	// would not bring it back.
	Alive() bool
	// Report says whether the worker takes jobs, and why not.
	Report() Report
}

// Report is the readiness of a worker.
type Report struct {
	Ready  bool    `json:"ready"`
	Checks []Check `json:"checks"`
	// Services are shown for people; they do not decide readiness: a replica whose service is
	// down must go on, or a broken service would take every replica out.
	Services []jobs.ServiceState `json:"services"`
}

// Check is one condition of readiness.
type Check struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail,omitempty"`
}

// Handler serves /livez and /readyz: 200 or 503 with one word, and with ?verbose a line for
// each check and service, or JSON for those who accept it.
func Handler(p Prober) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		if p.Alive() {
			answer(w, http.StatusOK, "text/plain; charset=utf-8", []byte("ok\n"))
			return
		}
		answer(w, http.StatusServiceUnavailable, "text/plain; charset=utf-8", []byte("the worker's loop has ended\n"))
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) { ready(w, r, p.Report()) })
	return mux
}

func ready(w http.ResponseWriter, r *http.Request, report Report) {
	code, word := http.StatusOK, "ready\n"
	if !report.Ready {
		code, word = http.StatusServiceUnavailable, "not ready\n"
	}
	switch {
	case !r.URL.Query().Has("verbose"):
		answer(w, code, "text/plain; charset=utf-8", []byte(word))
	case strings.Contains(r.Header.Get("Accept"), "application/json"):
		body, err := json.Marshal(report)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		answer(w, code, "application/json", append(body, '\n'))
	default:
		answer(w, code, "text/plain; charset=utf-8", []byte(report.text()+word))
	}
}

// text is a line for each check and service, in the manner of Kubernetes' own health pages.
func (r Report) text() string {
	var b strings.Builder
	for _, c := range r.Checks {
		mark := "[+]"
		if !c.OK {
			mark = "[-]"
		}
		b.WriteString(strings.TrimSpace(mark+c.Name+" "+c.Detail) + "\n")
	}
	for _, s := range r.Services {
		fmt.Fprintf(&b, "service %s: breaker %s, %d of %d in flight", s.Name, s.Breaker, s.InFlight, s.Limit)
		if s.LastError != "" {
			b.WriteString(", last error")
			if !s.LastErrorAt.IsZero() {
				b.WriteString(" " + ago(time.Now(), s.LastErrorAt))
			}
			b.WriteString(": " + strings.ReplaceAll(s.LastError, "\n", " "))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func answer(w http.ResponseWriter, code int, contentType string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_, _ = w.Write(body) // an error means that the client is gone
}
