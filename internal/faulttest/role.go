package faulttest

import (
	"flag"
	"fmt"
	"os"
	"os/exec"

	"github.com/nats-io/nats-server/v2/server"
)

// roleVariable names the role of a test binary that was started again as a child.
const roleVariable = "FAULTTEST_ROLE"

// ServerVariable names the nats-server that brokers are, instead of the one in go.mod: the path of
// a binary.
const ServerVariable = "FAULTTEST_SERVER"

// roleBroker runs the arguments as nats-server would.
const roleBroker = "broker"

// Role is called first in a TestMain. In a child it plays the part that the parent chose and
// never returns; roles are the parts beside the broker, by name. In the test process itself
// it returns at once.
func Role(roles map[string]func() int) {
	name := os.Getenv(roleVariable)
	if name == "" {
		return
	}
	if name == roleBroker {
		os.Exit(runBroker(os.Args[1:]))
	}
	run, known := roles[name]
	if !known {
		fmt.Fprintf(os.Stderr, "no role %q; %s is set by the harness only\n", name, roleVariable)
		os.Exit(2)
	}
	os.Exit(run())
}

// Again is a command that starts the test binary again in a role. The environment holds the
// role and env only.
func Again(role string, env []string, args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append([]string{roleVariable + "=" + role}, env...)
	return cmd
}

// runBroker is the main function of nats-server 2.15: the same flags, signals (SIGHUP
// reloads the configuration) and exit codes.
func runBroker(args []string) int {
	flags := flag.NewFlagSet("nats-server", flag.ContinueOnError)
	opts, err := server.ConfigureOptions(flags, args, nil, flags.Usage, nil)
	if err != nil {
		fmt.Fprintln(os.Stderr, "nats-server:", err)
		return 1
	}
	s, err := server.NewServer(opts)
	if err != nil {
		fmt.Fprintln(os.Stderr, "nats-server:", err)
		return 1
	}
	s.ConfigureLogger()
	if err := server.Run(s); err != nil {
		fmt.Fprintln(os.Stderr, "nats-server:", err)
		return 1
	}
	s.WaitForShutdown()
	return 0
}
