//go:build fault && linux

package fault_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"rollcall/internal/faulttest"
	"rollcall/internal/history"
)

// TestRightsAndLimitsThatComeAndGo: what a worker needs of its account is taken away by a reload of
// the broker and given back by another one, under load. The worker says that it is not ready as
// long as it gets no jobs, and goes on without a restart.
func TestRightsAndLimitsThatComeAndGo(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		// permissions of the worker and limits of its account while something is missing.
		permissions, limits string
		// silent means that no job reaches the worker then.
		silent bool
		// told is in its log.
		told string
	}{
		"inbox":         {permissions: `subscribe: {deny: ["_INBOX.>"]}`, silent: true, told: "_INBOX.worker"},
		"acks":          {permissions: `publish: {deny: ["$JS.ACK.>"]}`, told: "$JS.ACK.JOBS.default"},
		"pulls":         {permissions: `publish: {deny: ["$JS.API.CONSUMER.MSG.NEXT.>"]}`, silent: true, told: "CONSUMER.MSG.NEXT.JOBS.default"},
		"subscriptions": {limits: `max_subscriptions: 1`, silent: true, told: "maximum subscriptions exceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			account := func(permissions, limits string) string {
				return fmt.Sprintf(`accounts: { A: { jetstream: enabled, limits: {%s}, users: [
					{user: worker, password: w, permissions: {%s}}, {user: test, password: t} ] } }`, limits, permissions)
			}
			broker := faulttest.StartBroker(t, faulttest.BrokerOptions{Extra: account("", "")})
			s := faulttest.NewScenario(t, program, broker.URL, []string{"billing"}, nats.UserInfo("test", "t"))
			s.Env = s.Env.With("NATS_USER", "worker", "NATS_PASSWORD", "w")
			s.Setup()
			w := s.Start()
			stop := s.Load.Start(200)
			faulttest.Progress(t, patience, "calls", s.Services[0].Count)

			broker.Configure("1GB", account(c.permissions, c.limits))
			broker.Reload()
			lacking := time.Now()
			if c.silent {
				faulttest.Until(t, patience, "not ready", func() bool { return !w.Ready() })
			}
			faulttest.Until(t, patience, "the log tells what is missing", func() bool { return strings.Contains(w.Log(), c.told) })
			faulttest.Until(t, patience, "five seconds without it", func() bool { return time.Since(lacking) > 5*time.Second })
			broker.Configure("1GB", account("", ""))
			broker.Reload()
			if err := s.NC.ForceReconnect(); err != nil { // the account's limit may have cost the test its own subscriptions
				t.Fatal(err)
			}

			faulttest.Until(t, patience, "ready", w.Ready)
			stop()
			s.Judge(patience, history.History{Grace: patience})
			if !w.Running() || !w.Ready() {
				t.Error("the worker has not come through it")
			}
		})
	}
}
