package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"time"

	"golang.org/x/term"

	"rollcall/internal/jobs"
)

const (
	// maxLine bounds a job on standard input, in bytes: far above the 8 MiB that nats-server
	// warns about as a max_payload (MAX_PAYLOAD_MAX_SIZE).
	maxLine = 64 << 20
	// minRate is a job in a quarter of an hour: less is a job for cron.
	minRate = 0.001
)

// pace hands on the items of source, at most rate a second; 0 means as they come. Later items
// do not catch up with a late one.
func pace[T any](ctx context.Context, rate float64, source iter.Seq2[T, error]) iter.Seq2[T, error] {
	if rate == 0 {
		return source
	}
	return func(yield func(T, error) bool) {
		ticker := time.NewTicker(max(1, time.Duration(float64(time.Second)/rate)))
		defer ticker.Stop()
		first := true
		for item, err := range source {
			if !first {
				select {
				case <-ticker.C:
				case <-ctx.Done():
					return
				}
			}
			first = false
			if !yield(item, err) {
				return
			}
		}
	}
}

// bodies chooses where the jobs come from: the argument, a file, or standard input. numbered
// is set if there may be several.
func (c *cli) bodies(ctx context.Context, args []string, f *publishFlags) (source iter.Seq2[[]byte, error], numbered bool, err error) {
	var body []byte
	switch {
	case f.rate != 0 && !(f.rate >= minRate): // NaN is refused too
		return nil, false, fmt.Errorf("--rate %v: want 0, or at least %v", f.rate, minRate)
	case f.count < 1:
		return nil, false, fmt.Errorf("--count %d: want at least 1", f.count)
	case len(args) > 0 && f.file != "":
		return nil, false, errors.New("BODY and --file are both given: keep one")
	case len(args) > 0:
		body = []byte(args[0])
	case f.file == "-":
		if body, err = io.ReadAll(c.stdin); err != nil {
			return nil, false, fmt.Errorf("read standard input: %w", err)
		}
	case f.file != "":
		if body, err = os.ReadFile(f.file); err != nil {
			return nil, false, fmt.Errorf("read the job: %w", err)
		}
	case f.count > 1:
		return nil, false, errors.New("--count repeats one job: give it as BODY or by --file")
	case isTerminal(c.stdin):
		return nil, false, errors.New("nothing to publish: give BODY or --file, or pipe one JSON job per line to standard input")
	default:
		return lines(ctx, c.stdin), true, nil
	}
	return repeat(body, f.count), f.count > 1, nil
}

func repeat(body []byte, count int) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for range count {
			if !yield(body, nil) {
				return
			}
		}
	}
}

// lines yields the non-empty lines of in, each checked to be JSON, until ctx is done. A read
// that blocks cannot be cut off, so the goroutine that reads is only waited for when it has
// something to give; at the end of the program it may still wait for a terminal.
func lines(ctx context.Context, in io.Reader) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		type line struct {
			body []byte
			err  error
		}
		read := make(chan line)
		go func() {
			defer close(read)
			for body, err := range scan(in) {
				select {
				case read <- line{body, err}:
				case <-ctx.Done():
					return
				}
			}
		}()
		for {
			select {
			case l, more := <-read:
				if !more || !yield(l.body, l.err) {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}
}

// scan yields the non-empty lines of in and ends with the first fault.
func scan(in io.Reader) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		s := bufio.NewScanner(in)
		s.Buffer(nil, maxLine)
		n := 0
		for s.Scan() {
			n++
			body := bytes.TrimSpace(s.Bytes())
			if len(body) == 0 {
				continue
			}
			if !jobs.ValidJSON(body) {
				yield(nil, fmt.Errorf("standard input, line %d: not JSON; other bodies go one at a time, as BODY or by --file", n))
				return
			}
			if !yield(bytes.Clone(body), nil) {
				return
			}
		}
		if err := s.Err(); err != nil {
			yield(nil, fmt.Errorf("standard input, line %d: %w", n+1, err))
		}
	}
}

// isTerminal reports whether stream is a person's terminal.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
