package service_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"io"
	"math"
	"net/http"
	"runtime"
	"testing"

	"rollcall/internal/jobs"
	"rollcall/internal/service"
)

// gzipBomb returns n MiB of spaces, compressed to about n KiB.
func gzipBomb(t *testing.T, n int) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	for range n {
		if _, err := z.Write(bytes.Repeat([]byte{' '}, 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestHostileRepliesCostBoundedMemory has compressed bombs and endless replies. It is not parallel:
// it counts every byte that the process allocates.
func TestHostileRepliesCostBoundedMemory(t *testing.T) {
	bomb := gzipBomb(t, 24)
	spaces := bytes.Repeat([]byte{' '}, 64<<10)
	for name, handler := range map[string]http.HandlerFunc{
		"gzip bomb of 24 MiB": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(bomb)
		},
		"endless body": func(w http.ResponseWriter, _ *http.Request) {
			for {
				if _, err := w.Write(spaces); err != nil {
					return
				}
			}
		},
	} {
		cfg := config()
		cfg.Tries = 1
		s := newService(t, serve(t, handler), cfg, service.Deps{})
		c := call(1)
		const calls = 5
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range calls {
			want{reason: jobs.ReasonTooLarge, tries: 1}.check(t, s.Call(t.Context(), c))
		}
		runtime.ReadMemStats(&after)
		// The cap is 1 MiB; a buffer that doubles until there allocates about three times that.
		if perCall := (after.TotalAlloc - before.TotalAlloc) / calls; perCall > 6<<20 {
			t.Errorf("%s: a call allocated %d KiB", name, perCall>>10)
		}
	}
}

// TestALongCallIsSentFromWhereItStands has a call that is longer than net/http's buffer: it arrives
// as it is, and no part of it is copied on its way to the kernel. It is not parallel: it counts
// every byte that the process allocates.
func TestALongCallIsSentFromWhereItStands(t *testing.T) {
	c := call(8)
	for _, j := range c.Jobs {
		j.Body = bytes.Repeat([]byte("[1,22,333]"), 20_000)
	}
	c.Body = jobs.AppendCall(nil, c.Jobs)
	sum := sha256.Sum256(c.Body)
	room := make([]byte, 64<<10) // requests come one after the other
	s := newService(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		got := sha256.New()
		if _, err := io.CopyBuffer(got, r.Body, room); err != nil {
			t.Error(err)
		}
		if [sha256.Size]byte(got.Sum(nil)) != sum {
			t.Error("the body is not the call's")
		}
		w.WriteHeader(http.StatusNoContent)
	}), config(), service.Deps{})
	send := func() {
		if r := s.Call(t.Context(), c); r.Failure != nil {
			t.Fatal(r.Failure)
		}
	}
	send()
	least := uint64(math.MaxUint64) // of some calls: the race detector has pools lose what they hold
	for range 20 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		send()
		runtime.ReadMemStats(&after)
		least = min(least, after.TotalAlloc-before.TotalAlloc)
	}
	const copied = 32 << 10 // what io.Copy takes
	if least >= copied {
		t.Errorf("%d KiB allocated a call of %d KiB", least>>10, len(c.Body)>>10)
	}
}
