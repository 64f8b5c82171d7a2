package web

import (
	"bytes"
	"html/template"
	"net/http"
)

// dashboard is the page at /.
type dashboard struct {
	viewer Viewer
	page   *template.Template
}

func newDashboard(v Viewer) dashboard {
	page := template.Must(template.New("dashboard.html").Funcs(functions()).ParseFS(assets, "assets/*.html"))
	return dashboard{viewer: v, page: page}
}

// ServeHTTP renders the page before it sends anything, so that a fault is no half page.
func (d dashboard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var body bytes.Buffer
	v := newView(d.viewer.Status(r.Context()))
	if err := d.page.Execute(&body, &v); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	answer(w, http.StatusOK, "text/html; charset=utf-8", visible(body.Bytes()))
}
