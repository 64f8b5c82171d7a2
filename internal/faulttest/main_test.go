package faulttest_test

import (
	"testing"

	"go.uber.org/goleak"

	"rollcall/internal/faulttest"
)

func TestMain(m *testing.M) {
	faulttest.Role(map[string]func() int{"sleeper": sleeper, "printer": printer, "parent": parent, "passer": passer})
	goleak.VerifyTestMain(m, faulttest.ServerLeftovers())
}
