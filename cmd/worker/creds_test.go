package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"rollcall/internal/faulttest"
)

// keys are a key pair and its public half.
func keys(t *testing.T, create func() (nkeys.KeyPair, error)) (pair nkeys.KeyPair, public string) {
	t.Helper()
	pair, err := create()
	if err != nil {
		t.Fatal(err)
	}
	if public, err = pair.PublicKey(); err != nil {
		t.Fatal(err)
	}
	return pair, public
}

// provider is a server whose accounts and users are JWTs, as a hosted one's: its URL, and what issues
// a credentials file for a user who may not publish to some subjects.
func provider(t *testing.T) (url string, issue func(name string, deny ...string) (path string)) {
	t.Helper()
	operator, operatorKey := keys(t, nkeys.CreateOperator)
	account, accountKey := keys(t, nkeys.CreateAccount)
	_, systemKey := keys(t, nkeys.CreateAccount)
	resolver := &server.MemAccResolver{}
	for _, key := range []string{accountKey, systemKey} {
		claims := jwt.NewAccountClaims(key)
		if key == accountKey {
			claims.Limits.JetStreamTieredLimits = jwt.JetStreamTieredLimits{"R1": {
				DiskStorage: 64 << 20, Streams: 10, Consumer: 100, MaxBytesRequired: true, DiskMaxStreamBytes: 24 << 20,
			}}
		}
		token, err := claims.Encode(operator)
		if err != nil {
			t.Fatal(err)
		}
		if err := resolver.Store(key, token); err != nil {
			t.Fatal(err)
		}
	}
	s := faulttest.StartServer(t, server.Options{
		Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(),
		TrustedKeys: []string{operatorKey}, AccountResolver: resolver, SystemAccount: systemKey,
	})
	dir := t.TempDir()
	return s.ClientURL(), func(name string, deny ...string) string {
		t.Helper()
		user, userKey := keys(t, nkeys.CreateUser)
		claims := jwt.NewUserClaims(userKey)
		claims.Name, claims.Pub.Deny = name, deny
		token, err := claims.Encode(account)
		if err != nil {
			t.Fatal(err)
		}
		seed, err := user.Seed()
		if err != nil {
			t.Fatal(err)
		}
		text, err := jwt.FormatUserConfig(token, seed)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, name+".creds")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
}

// TestOperatorsLogInWithACredentialsFileOfTheirOwn: beside that of the workers, on a server whose
// accounts want limits for every stream.
func TestOperatorsLogInWithACredentialsFileOfTheirOwn(t *testing.T) {
	t.Parallel()
	url, issue := provider(t)
	workers := []string{"NATS_URL=" + url, "NATS_CREDS=" + issue("worker", "$JS.API.STREAM.CREATE.>", "$JS.API.STREAM.MSG.DELETE.>", "$JS.API.CONSUMER.PAUSE.>", "jobs.>")}
	limits := []string{"ROLLCALL_STREAM_BYTES=16MiB", "ROLLCALL_LATER_BYTES=4MiB", "ROLLCALL_DONE_BYTES=16MiB", "ROLLCALL_DEAD_BYTES=8MiB"}
	both := append(append(workers[:len(workers):len(workers)], "NATS_OPS_CREDS="+issue("ops")), limits...)

	wants(t, worker(t, both, "setup", "--dry-run"), codeOK, "stream JOBS", "missing")
	wants(t, worker(t, both[:3], "setup", "--dry-run"), codeOK, "set ROLLCALL_STREAM_BYTES", "set ROLLCALL_LATER_BYTES")
	wants(t, worker(t, workers, "setup"), codeFailed, "denies this user: publish $JS.API.STREAM.CREATE", "NATS_OPS_CREDS")
	wants(t, worker(t, both, "setup", "--archive", "30d", "--archive-bytes", "8MiB"), codeOK, "stream HISTORY", "created")

	billing := faulttest.StartRecorder(t, "billing")
	billing.Answer(faulttest.Each(func(faulttest.Asked) string { return "fail" }))
	replica := start(t, url, []*faulttest.Recorder{billing}, append(both[1:], "ROLLCALL_ENSURE=false")...)
	replica.logged("ready")
	wants(t, worker(t, both, "publish", "jobs.mail", "{}", "--id", "ann-1", "--wait"), codeFailed, "ann-1")
	wants(t, worker(t, workers, "pause", "--for", "1m"), codeFailed, "denies this user: publish $JS.API.CONSUMER.PAUSE")
	for _, args := range [][]string{{"pause", "--for", "1m"}, {"resume"}, {"dead", "replay", "--all"}, {"erase", "ann-1", "--yes"}} {
		wants(t, worker(t, both, args...), codeOK)
	}
	if code := replica.stopped(); code != codeOK {
		t.Errorf("the replica ended with %d", code)
	}
}
