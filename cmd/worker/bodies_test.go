package main

import (
	"context"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestLinesAreJobs(t *testing.T) {
	t.Parallel()
	in := "{\"n\":1}\r\n\n  [2]  \n\"three\""
	var got []string
	for body, err := range lines(t.Context(), strings.NewReader(in)) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(body))
	}
	if diff := cmp.Diff([]string{`{"n":1}`, `[2]`, `"three"`}, got); diff != "" {
		t.Error(diff)
	}
}

func TestALineThatIsNotJSONIsNamed(t *testing.T) {
	t.Parallel()
	n := 0
	for _, err := range lines(t.Context(), strings.NewReader("{}\n{\n{}\n")) {
		if n++; n == 2 && (err == nil || !strings.Contains(err.Error(), "line 2")) {
			t.Errorf("got %v, want an error that names line 2", err)
		}
	}
	if n != 2 {
		t.Errorf("%d lines were read, want 2", n)
	}
}

func TestLinesEndWithTheirContextWhileReadingBlocks(t *testing.T) {
	t.Parallel()
	in, typed := io.Pipe()
	defer typed.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range lines(ctx, in) {
		t.Error("a job out of nothing")
	}
}

func TestLinesCanBeLeftEarly(t *testing.T) {
	t.Parallel()
	for range lines(t.Context(), strings.NewReader("1\n2\n3\n")) {
		break // goleak sees a reader that stays behind
	}
}

func TestPaceSpreadsItemsOverTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begun, n := time.Now(), 0
		for _, err := range pace(t.Context(), 20, repeat([]byte("x"), 41)) {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		if took := time.Since(begun); n != 41 || took != 2*time.Second {
			t.Errorf("%d items took %v, want 41 in 2s", n, took)
		}
	})
}

func TestPaceEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := 0
	for range pace(ctx, minRate, repeat([]byte("x"), 3)) {
		n++
		cancel()
	}
	if n != 1 {
		t.Errorf("%d items, want 1: the next is due in a quarter of an hour", n)
	}
}
