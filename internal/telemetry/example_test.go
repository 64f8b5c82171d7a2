package telemetry_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"rollcall/internal/jobs"
	"rollcall/internal/telemetry"
)

// Metrics count what a pool reports to them, and serve it to Prometheus.
func ExampleMetrics() {
	metrics := telemetry.NewMetrics("mail", telemetry.Build{Version: "v1.0.0", Go: "go1.26"}, nil,
		[]telemetry.ServiceInfo{{Name: "billing", Required: true, Timeout: 10 * time.Second}})
	metrics.SetEnded("import-7", jobs.SetSucceeded, 5000)

	response := httptest.NewRecorder()
	metrics.Handler().ServeHTTP(response, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for line := range strings.Lines(response.Body.String()) {
		if strings.HasPrefix(line, "rollcall_sets_finished_total") && strings.Contains(line, "succeeded") {
			fmt.Print(line)
		}
	}
	// Output: rollcall_sets_finished_total{outcome="succeeded",pool="mail"} 1
}
