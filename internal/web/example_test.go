package web_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"

	"rollcall/internal/jobs"
	"rollcall/internal/web"
)

// draining is a worker that takes no more jobs and finishes what it holds.
type draining struct{}

func (draining) Alive() bool { return true }

func (draining) Report() web.Report {
	return web.Report{
		Checks:   []web.Check{{Name: "working", Detail: "draining"}, {Name: "broker", OK: true}},
		Services: []jobs.ServiceState{{Name: "billing", Breaker: jobs.BreakerClosed, InFlight: 3, Limit: 32}},
	}
}

// A load balancer or an orchestrator asks /readyz; a person adds ?verbose.
func ExampleHandler() {
	response := httptest.NewRecorder()
	web.Handler(draining{}).ServeHTTP(response, httptest.NewRequest(http.MethodGet, "/readyz?verbose", nil))
	fmt.Println(response.Code)
	fmt.Print(response.Body)
	// Output:
	// 503
	// [-]working draining
	// [+]broker
	// service billing: breaker closed, 3 of 32 in flight
	// not ready
}
