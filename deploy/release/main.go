package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// release says what is made, of what, and where it goes.
type release struct {
	// root is the directory of the repository, out that of the artifacts.
	root, out string
	// version begins with a v, revision is a commit.
	version, revision string
	// time is that of the commit: every time stamp in every artifact.
	time    time.Time
	targets []target
	// scratch is thrown away.
	scratch string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("release", flag.ContinueOnError)
	var r release
	flags.StringVar(&r.root, "root", "../..", "directory of the repository")
	flags.StringVar(&r.out, "out", "../../dist", "directory for the artifacts; it must not exist or be empty")
	flags.StringVar(&r.version, "version", "", "version, vX.Y.Z; the last tag as `git describe` words it if empty")
	flags.StringVar(&r.revision, "revision", "", "commit; HEAD if empty")
	list := flags.String("platforms", platforms, "comma list of what to build for")
	sbomOnly := flags.Bool("sbom", false, "make the bills of materials only")
	if err := flags.Parse(args); err != nil {
		return err
	}
	var err error
	if r.targets, err = parseTargets(*list); err != nil {
		return err
	}
	if err := r.resolve(ctx); err != nil {
		return err
	}
	scratch, err := os.MkdirTemp("", "rollcall-release-")
	if err != nil {
		return fmt.Errorf("make a scratch directory: %w", err)
	}
	defer os.RemoveAll(scratch)
	r.scratch = scratch
	return r.make(ctx, *sbomOnly)
}

// resolve fills in what git knows, and SOURCE_DATE_EPOCH
// (https://reproducible-builds.org/specs/source-date-epoch/).
func (r *release) resolve(ctx context.Context) error {
	var err error
	if r.root, err = filepath.Abs(r.root); err != nil {
		return fmt.Errorf("find the repository: %w", err)
	}
	if r.out, err = filepath.Abs(r.out); err != nil {
		return fmt.Errorf("find the directory for the artifacts: %w", err)
	}
	if r.version == "" {
		if r.version, err = r.git(ctx, "describe", "--tags", "--always", "--dirty"); err != nil {
			return err
		}
	}
	if r.revision == "" {
		if r.revision, err = r.git(ctx, "rev-parse", "HEAD"); err != nil {
			return err
		}
	}
	epoch := os.Getenv("SOURCE_DATE_EPOCH")
	if epoch == "" {
		if epoch, err = r.git(ctx, "log", "-1", "--format=%ct", r.revision); err != nil {
			return err
		}
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	r.time = time.Unix(seconds, 0).UTC()
	return nil
}

func (r *release) git(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = r.root
	out, err := cmd.Output()
	if err != nil {
		var failed *exec.ExitError
		if errors.As(err, &failed) {
			err = fmt.Errorf("%w: %s", err, failed.Stderr)
		}
		return "", fmt.Errorf("git %s: %w", args[0], err)
	}
	return strings.TrimSpace(string(out)), nil
}

// make makes everything, in the order in which one needs the other.
func (r *release) make(ctx context.Context, sbomOnly bool) error {
	if entries, err := os.ReadDir(r.out); err == nil && len(entries) > 0 && !sbomOnly {
		return fmt.Errorf("%s is not empty: an old artifact would get into the checksums; remove it first", r.out)
	}
	if err := os.MkdirAll(r.out, 0o755); err != nil {
		return fmt.Errorf("make the directory for the artifacts: %w", err)
	}
	tool, err := r.sbomTool(ctx)
	if err != nil {
		return err
	}
	for _, t := range r.targets {
		worker, err := r.build(ctx, t)
		if err != nil {
			return err
		}
		if err := r.sbom(ctx, tool, t, worker); err != nil {
			return err
		}
		if sbomOnly {
			continue
		}
		if err := r.pack(t, worker); err != nil {
			return err
		}
		if t.os == "linux" {
			if err := r.image(t, worker); err != nil {
				return err
			}
		}
	}
	if sbomOnly {
		return nil
	}
	if err := r.chart(); err != nil {
		return err
	}
	if err := r.provenance(ctx); err != nil {
		return err
	}
	return r.checksums()
}
