package web

import (
	"embed"
	"encoding/json"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

//go:embed assets
var assets embed.FS

// policy lets a page load what stands on this server and nothing else, and do nothing but
// read. There is no inline script or style to allow.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'none'; base-uri 'none'; frame-ancestors 'none'"

// Everything serves all that a worker shows: the health pages of [Handler], /metrics, the
// dashboard at / and the same as JSON at /api/v1/status. All of it is read-only.
func Everything(p Prober, metrics http.Handler, v Viewer) http.Handler {
	mux := pages(v)
	addSignals(mux, p, metrics)
	return mux
}

// signals serves what machines ask for.
func signals(p Prober, metrics http.Handler) *http.ServeMux {
	mux := http.NewServeMux()
	addSignals(mux, p, metrics)
	return mux
}

func addSignals(mux *http.ServeMux, p Prober, metrics http.Handler) {
	health := Handler(p)
	mux.Handle("/livez", health)
	mux.Handle("/readyz", health)
	mux.Handle("GET /metrics", metrics)
}

// pages serves what people look at.
func pages(v Viewer) *http.ServeMux {
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", guard(newDashboard(v)))
	mux.Handle("GET /api/v1/status", guard(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := json.MarshalIndent(v.Status(r.Context()), "", "  ")
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		answer(w, http.StatusOK, "application/json", append(body, '\n'))
	})))
	files, err := fs.Sub(assets, "assets")
	if err != nil {
		panic(err) // the name is a constant
	}
	static := http.StripPrefix("/assets/", http.FileServerFS(files))
	for _, name := range []string{"dashboard.css", "dashboard.js", "icon.svg"} {
		mux.Handle("GET /assets/"+name, guard(static))
	}
	return mux
}

// guard adds the headers of a page that is for people, and refuses names that do not belong
// to this machine.
func guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		if !belongs(r) {
			http.Error(w, "this worker listens on loopback and is asked under another name; use localhost", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// belongs reports whether a request may see more than health. A browser on this machine can
// be made to ask a loopback address under a foreign name (DNS rebinding), and would show the
// answer to that name's page. So on loopback only the names of loopback are served. On other
// addresses any name may be right, and the network decides who gets there.
func belongs(r *http.Request) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return true
	}
	address, err := netip.ParseAddrPort(local.String())
	if err != nil || !address.Addr().Unmap().IsLoopback() {
		return true
	}
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if ip, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return ip.Unmap().IsLoopback()
	}
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}
