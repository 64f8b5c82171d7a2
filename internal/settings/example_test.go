package settings_test

import (
	"fmt"
	"time"

	"rollcall/internal/settings"
)

func Example() {
	var spec struct {
		Timeout time.Duration `envconfig:"ROLLCALL_EXAMPLE_TIMEOUT" default:"10s" desc:"how long a call may take"`
		Tries   int           `envconfig:"ROLLCALL_EXAMPLE_TRIES" default:"3" desc:"tries of a call"`
	}
	r := settings.NewReader([]string{"ROLLCALL_EXAMPLE_TIMEOUT=5", "ROLLCALL_EXAMPLE_TRIES=4", "ROLLCALL_EXAMPLE_TRYS=5"})
	r.Fill(&spec)
	r.RefuseUnknown(nil, true, nil)
	fmt.Println(spec.Timeout, spec.Tries)
	fmt.Println(r.Err())
	// Output:
	// 10s 4
	// the settings have 2 faults:
	//   - ROLLCALL_EXAMPLE_TIMEOUT is "5": want a duration with its unit, such as 50ms, 10s or 24h
	//   - ROLLCALL_EXAMPLE_TRYS is unknown: did you mean ROLLCALL_EXAMPLE_TRIES?
}
