// Package sizing_test measures what completion events take, in the store and in the memory of the
// broker, and holds the table in docs/operations.md to it.
package sizing_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"rollcall/internal/app"
	"rollcall/internal/faulttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, faulttest.ServerLeftovers()) }

const (
	// limit is how long anything may take before a test fails.
	limit = time.Minute
	// tolerance is how far the documented numbers may be from those measured.
	tolerance = 0.1
	// memoryTolerance is the same for memory: caches of the server's come and go meanwhile, which
	// hold a few megabytes.
	memoryTolerance = 0.2
	// day is how long an event is kept, in seconds.
	day = 24 * 3600
)

// events say how a pool makes them: how many jobs are in a batch, and how many bytes of the reply
// are kept for each.
type events struct{ batch, answer int }

// row is a line of the table: what a job takes, and what a day of so many jobs a second comes to.
type row struct {
	events
	rate, bytes     float64
	storage, memory float64
}

// documented reads the table, and what an event takes in memory.
func documented(t *testing.T) (rows []row, perEvent float64) {
	t.Helper()
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	number := func(s string) float64 {
		n, err := strconv.ParseFloat(strings.ReplaceAll(s, ",", ""), 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	line := regexp.MustCompile(`(?m)^\| ([\d,]+) \| (\d+) \| ([\d,]+) B \| ([\d,]+) B \| ([\d.]+) GB \| ([\d.,]+) MB \|$`)
	for _, m := range line.FindAllStringSubmatch(string(text), -1) {
		rows = append(rows, row{
			events: events{int(number(m[2])), int(number(m[3]))},
			rate:   number(m[1]), bytes: number(m[4]), storage: number(m[5]) * 1e9, memory: number(m[6]) * 1e6,
		})
	}
	m := regexp.MustCompile(`keeps in memory \(about (\d+) bytes\)`).FindStringSubmatch(string(text))
	if len(rows) < 8 || m == nil {
		t.Fatalf("docs/operations.md has %d rows of sizes, and memory per event %v", len(rows), m)
	}
	return rows, number(m[1])
}

func near(got, want float64) bool { return math.Abs(got-want) <= tolerance*want }

// broker is a server without a port.
func broker(t *testing.T) (nats.Option, jetstream.JetStream) {
	t.Helper()
	s := faulttest.StartServer(t, server.Options{JetStream: true, StoreDir: t.TempDir(), DontListen: true})
	option := nats.InProcessServer(s)
	return option, faulttest.JetStream(t, faulttest.Connect(t, "", option))
}

// TestTheTableOfSizesIsTrue runs a pool for every kind of events and looks what they take. A day of
// them is worked out.
func TestTheTableOfSizesIsTrue(t *testing.T) {
	rows, perEvent := documented(t)
	bytes := map[events]float64{}
	for _, r := range rows {
		if said, ok := bytes[r.events]; ok && said != r.bytes {
			t.Errorf("a job is said to take %.0f and %.0f bytes, %+v", said, r.bytes, r.events)
		}
		bytes[r.events] = r.bytes
		jobs := r.rate * day
		if want := jobs * r.bytes; !near(r.storage, want) {
			t.Errorf("a day is said to take %.3g bytes, want %.3g, %+v", r.storage, want, r)
		}
		if want := jobs / float64(r.batch) * perEvent; !near(r.memory, want) {
			t.Errorf("a day is said to take %.3g bytes of memory, want %.3g, %+v", r.memory, want, r)
		}
	}
	for e, said := range bytes {
		t.Run(fmt.Sprintf("%d a batch, %d bytes kept", e.batch, e.answer), func(t *testing.T) {
			t.Parallel()
			got := measured(t, e)
			t.Logf("%.0f bytes a job", got)
			if !near(got, said) {
				t.Errorf("a job takes %.0f bytes, and the table says %.0f", got, said)
			}
		})
	}
}

// measured is how many bytes of events a pool makes per job.
func measured(t *testing.T, r events) float64 {
	t.Helper()
	option, js := broker(t)
	service := faulttest.StartRecorder(t, "billing")
	service.Answer(func(request faulttest.Request) faulttest.Answer {
		list := make([]map[string]any, len(request.Jobs))
		for i, j := range request.Jobs {
			list[i] = map[string]any{"id": j.ID, "status": "ok"}
			if r.answer > 0 {
				list[i]["data"] = strings.Repeat("x", r.answer)
			}
		}
		body, err := json.Marshal(map[string]any{"results": list})
		if err != nil {
			return faulttest.Answer{Status: 500}
		}
		return faulttest.Answer{Body: string(body)}
	})
	cfg, err := app.LoadRun([]string{
		"ROLLCALL_SERVICES=billing=" + service.URL(), "ROLLCALL_HTTP_ADDR=127.0.0.1:0", "ROLLCALL_BATCH_LINGER=5s",
		"ROLLCALL_BATCH_SIZE=" + strconv.Itoa(r.batch), "ROLLCALL_BATCHES_IN_FLIGHT=4",
	})
	if err != nil {
		t.Fatal(err)
	}
	opts := app.Options{Replica: "worker-7d4b9c6f5-x2x4z", NATS: []nats.Option{option}}
	if _, err := app.Setup(t.Context(), cfg, zerolog.Nop(), opts, false); err != nil {
		t.Fatal(err)
	}
	batches := max(2000/r.batch, 20)
	for range batches * r.batch {
		if _, err := js.Publish(t.Context(), "jobs.mail", []byte(`{}`), jetstream.WithMsgID(uuid.NewString())); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- app.Run(ctx, cfg, zerolog.Nop(), opts) }()
	faulttest.WaitRest(t, js, "JOBS", "default", limit)
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	done, err := js.Stream(t.Context(), "DONE")
	if err != nil {
		t.Fatal(err)
	}
	if err := done.Purge(t.Context(), jetstream.WithPurgeSubject("done.ledger.>")); err != nil {
		t.Fatal(err)
	}
	info, err := done.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if info.State.Msgs != uint64(batches) {
		t.Fatalf("%d events, want %d of %d jobs", info.State.Msgs, batches, r.batch)
	}
	return float64(info.State.Bytes) / float64(batches*r.batch)
}

// TestAnEventTakesThisMuchMemory looks at the heap of a server that holds many subjects. Nothing
// else runs meanwhile.
func TestAnEventTakesThisMuchMemory(t *testing.T) {
	_, perEvent := documented(t)
	_, js := broker(t)
	config := jetstream.StreamConfig{
		Name: "DONE", Subjects: []string{"done.>"}, MaxMsgsPerSubject: 1, AllowDirect: true, AllowMsgTTL: true, AllowAtomicPublish: true,
	}
	if _, err := js.CreateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	const events = 100_000
	fill := func(n int) {
		for i := range n {
			m := nats.NewMsg("done.batches.default.succeeded." + uuid.Must(uuid.NewV7()).String())
			m.Header.Set("Nats-TTL", "86400")
			if _, err := js.PublishMsgAsync(m); err != nil {
				t.Fatal(err)
			}
			if i%1000 == 999 {
				<-js.PublishAsyncComplete()
			}
		}
		<-js.PublishAsyncComplete()
	}
	fill(2000)
	before := heap()
	fill(events)
	got := float64(heap()-before) / events
	t.Logf("%.0f bytes of memory an event", got)
	if math.Abs(got-perEvent) > memoryTolerance*perEvent {
		t.Errorf("an event takes %.0f bytes of memory, and the documentation says %.0f", got, perEvent)
	}
}

// heap is what is in use after a collection.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
