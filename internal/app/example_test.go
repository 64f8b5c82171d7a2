package app_test

import (
	"fmt"
	"os"

	"rollcall/internal/app"
)

// Settings come from the environment. Every fault is found at once.
func ExampleLoadRun() {
	_, err := app.LoadRun([]string{"ROLLCALL_POOL=mail", "ROLLCALL_SERVICS=billing=http://billing:8080/jobs"})
	fmt.Println(err)

	cfg, err := app.LoadRun([]string{"ROLLCALL_POOL=mail", "ROLLCALL_SERVICES=billing=http://billing:8080/jobs"})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	fmt.Println(cfg.Pool, cfg.Targets[0].Name, cfg.Targets[0].URL)
	// Output:
	// the settings have 2 faults:
	//   - ROLLCALL_SERVICES is empty; write billing=http://billing:8080/jobs,index=nats://svc.index
	//   - ROLLCALL_SERVICS is unknown: did you mean ROLLCALL_SERVICES?
	// mail billing http://billing:8080/jobs
}
