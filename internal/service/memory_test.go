package service_test

import (
	"bytes"
	"compress/gzip"
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
