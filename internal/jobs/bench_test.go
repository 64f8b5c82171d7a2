package jobs_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"rollcall/internal/jobs"
)

// batchSize is the worker's own default; each benchmark does the work of one such batch, or
// of one page, and reports nanoseconds per job.
const batchSize = 96

// benchDeliveries is a batch as it arrives: JSON bodies of 256 bytes, and the header given.
func benchDeliveries(header map[string][]string) []jobs.Delivery {
	body := append([]byte(`{"order":123456,"customer":"c-42","total":99.50,"note":"`), bytes.Repeat([]byte{'x'}, 198)...)
	body = append(body, `"}`...)
	out := make([]jobs.Delivery, batchSize)
	for i := range out {
		out[i] = jobs.Delivery{
			Subject: "jobs.mail", Header: header, Data: body, Source: "/rollcall/JOBS/dk3x0q1z7f4w",
			Ref: jobs.Ref{Epoch: "dk3x0q1z7f4w", Seq: uint64(1000 + i)}, Delivered: 1, Published: published,
		}
	}
	return out
}

func benchBatch() *jobs.Batch {
	b := &jobs.Batch{ID: "0190a6e0-0000-7000-8000-000000000000", Pool: "default", Replica: "host-1", Seal: jobs.SealSize, SealedAt: published}
	for _, d := range benchDeliveries(nil) {
		j := jobs.Decode(d, 24*time.Hour)
		b.Jobs = append(b.Jobs, &j)
	}
	return b
}

func perJob(b *testing.B, n int) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/job")
	b.ReportMetric(0, "ns/op")
}

func BenchmarkDecode(b *testing.B) {
	for _, tt := range []struct {
		name   string
		header map[string][]string
	}{
		{"plain", nil},
		{"id", map[string][]string{"Nats-Msg-Id": {"order-123456"}}},
		{"set", map[string][]string{"Rollcall-Set": {"import-17"}, "Rollcall-Set-Size": {"20000"}}},
		{"deadline", map[string][]string{"Rollcall-Deadline": {"2026-01-31T12:00:00Z"}}},
		{"binary", map[string][]string{
			"ce-id": {"7"}, "ce-type": {"com.example.order"}, "ce-source": {"/shop"},
			"ce-specversion": {"1.0"}, "ce-time": {"2026-01-31T12:00:00Z"},
		}},
	} {
		b.Run(tt.name, func(b *testing.B) {
			deliveries := benchDeliveries(tt.header)
			b.ReportAllocs()
			for b.Loop() {
				for i := range deliveries {
					if j := jobs.Decode(deliveries[i], 24*time.Hour); j.Verdict != nil {
						b.Fatal(j.Verdict)
					}
				}
			}
			perJob(b, batchSize)
		})
	}
}

func BenchmarkValidJSON(b *testing.B) {
	for _, tt := range []struct{ name, body string }{
		{"256B", string(benchDeliveries(nil)[0].Data)},
		{"16KiB", `{"note":"` + strings.Repeat("the quick brown fox jumps over the lazy dog ", 372) + `"}`},
		{"nested", `{"a":[` + strings.Repeat(`{"b":[1,2.5e3,true,null,"\u00e9"]},`, 30) + `0]}`},
	} {
		b.Run(tt.name, func(b *testing.B) {
			text := []byte(tt.body)
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				if !jobs.ValidJSON(text) {
					b.Fatal("not valid")
				}
			}
		})
	}
}

func BenchmarkAppendCall(b *testing.B) {
	batch := benchBatch()
	body := make([]byte, 0, jobs.CallSize(batch.Jobs))
	b.ReportAllocs()
	for b.Loop() {
		body = jobs.AppendCall(body[:0], batch.Jobs)
	}
	perJob(b, batchSize)
}

func BenchmarkRule(b *testing.B) {
	batch, policy := benchBatch(), policy()
	replies := jobs.Replies{ok(), ok(), ok()}
	b.ReportAllocs()
	for b.Loop() {
		for _, j := range batch.Jobs {
			if r := policy.Rule(j, specs, replies, published); r.Outcome != jobs.Succeeded {
				b.Fatal(r)
			}
		}
	}
	perJob(b, batchSize)
}

func BenchmarkEncodeEvent(b *testing.B) {
	s := &jobs.Settlement{Batch: benchBatch(), SettledAt: published.Add(time.Second)}
	for _, spec := range specs {
		s.Services = append(s.Services, jobs.ServiceReport{Name: spec.Name, Required: spec.Required, OK: batchSize, Tries: 1})
	}
	for range s.Batch.Jobs {
		s.Rulings = append(s.Rulings, jobs.Ruling{Outcome: jobs.Succeeded, Attempt: 1, Burnt: true})
		s.Replies = append(s.Replies, jobs.Replies{ok(), ok(), ok()})
	}
	b.ReportAllocs()
	for b.Loop() {
		s.EncodeEvent(1 << 20)
	}
	b.ReportMetric(float64(len(s.Event))/batchSize, "B/job")
	perJob(b, batchSize)
}

func BenchmarkPageMerge(b *testing.B) {
	retried := jobs.Record{Attempts: 1, Seen: 1, Since: 1, OK: []string{"billing"}}
	for _, tt := range []struct {
		name   string
		record jobs.Record
	}{{"final", jobs.Record{Final: true}}, {"one retried", retried}} {
		b.Run(tt.name, func(b *testing.B) {
			stored := jobs.Page{}.With(3, retried).Append(nil)
			var out []byte
			b.ReportAllocs()
			for b.Loop() {
				page, err := jobs.DecodePage(stored)
				if err != nil {
					b.Fatal(err)
				}
				for offset := range jobs.PageSize {
					r := jobs.Record{Final: true}
					if offset == 5 {
						r = tt.record
					}
					page = page.With(offset, r)
				}
				out = page.Append(out[:0])
			}
			b.ReportMetric(float64(len(out)), "B/page")
			perJob(b, jobs.PageSize)
		})
	}
}
