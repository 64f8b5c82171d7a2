// Package devkittest starts the devkit's nats-server for tests.
package devkittest

import (
	"testing"

	"rollcall/internal/devkit"
)

// Start runs the devkit's nats-server until the test ends.
func Start(t testing.TB, o devkit.Options) *devkit.Server {
	t.Helper()
	s, err := devkit.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	return s
}
