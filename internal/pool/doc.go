// Package pool is the engine: it gathers deliveries into batches, sends each batch to every
// service at once, and settles it in the one order that loses and doubles nothing.
//
//	            intake              dispatcher                   executor, one run per batch
//	        ┌─────────────┐     ┌────────────────┐     ┌───────────────────────────────────┐
//	Source ─▶ decode,     ├────▶│ Batcher        ├────▶│ route ▶ fan-out ─┬▶ service ─┐    │
//	        │ read ledger │chunk│ suspects       │batch│                  ├▶ service ─┤    │
//	        └──────▲──────┘     │ ready queue    │     │                  └▶ service ─┤    │
//	               │            │ leases         │◀────┤             WaitGroup ◀──────┘    │
//	               │            └────────────────┘ends │ rule ▶ dead letters ▶ commit ▶ acks│
//	               └── gate: room for jobs and bytes ◀─┴───────────────────────────────────┘
//
// One goroutine, the dispatcher, owns the batches: no lock guards them. The gate bounds the jobs that
// are held, by count and by bytes in memory, so every queue behind it is bounded too.
//
// A sealed batch is a flight. It passes through these states, and through no other:
//
//	ready ──slot──▶ calling ──▶ settling ──┬── committed ────────▶ settled (acked, nak'd)
//	  │                │                   ├── nothing learnt ───▶ settled (nak'd, no event)
//	  │                │                   └── not committed ────▶ released (nak'd)
//	  ├── drain ───────┼──────────────────────────────────────────▶ released (nak'd at once)
//	  └── lease over ──┴── lease over ──────── lease over ────────▶ lost (no ack, no nak)
//
// A slot is held while calling only. Commits wait for the broker's disk, and the more batches
// wait together, the fewer commits there are; so settling flights have a bound of their own.
//
// Retried jobs come back in smaller calls. Jobs of a call that failed as a whole are called for again
// in halves of that call, and so are suspects, whose deliveries ended without a record. So a job that
// makes calls fail, or processes crash, is alone after a few attempts, and the others succeed. The
// ledger remembers how large the next call may be.
//
// Two contexts rule a pool's end. intake is cancelled at the soft stop: nothing more is
// taken, jobs that were not started are handed back, batches under way are finished. work is
// cancelled at the hard deadline. Settling runs on a context of its own, which outlives work by a
// moment, so that a shutdown does not throw away finished work.
package pool
