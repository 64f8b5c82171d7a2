// Package pool is the engine: it gathers deliveries into batches, sends each batch to every
// service at once, and settles it in the one order that loses and doubles nothing.
//
//	            intake              dispatcher                    worker, one per slot
//	        ┌─────────────┐     ┌────────────────┐     ┌───────────────────────────────────┐
//	Source ─▶ decode,     ├────▶│ Batcher        ├────▶│ fan-out ─┬▶ service ─┐            │
//	        │ read ledger │chunk│ ready queue    │batch│          ├▶ service ─┤ WaitGroup  │
//	        └──────▲──────┘     │ leases         │◀────┤          └▶ service ─┘            │
//	               │            └────────────────┘done │ dead letters ▶ commit ▶ acks, naks│
//	               └── gate: room for jobs and bytes ◀─┴───────────────────────────────────┘
//
// One goroutine, the dispatcher, owns the batches: no lock guards them. The gate bounds what
// is held, so every queue behind it is bounded too.
//
// A batch passes through these states, and through no other:
//
//	open ──seal──▶ ready ──slot──▶ calling ──▶ settling ──commit──▶ settled (acked, naked)
//	  │              │                │            │
//	  └──drain───────┴── handed back  │            └── lease lost: forgotten, no ack
//	                     (nak)        └── drain deadline: calls cancelled (nak)
//
// A slot is held while calling only. Commits wait for the broker's disk, and the more batches
// wait together, the fewer commits there are; so what is settling is bounded on its own.
//
// Two contexts rule a pool's end. intake is cancelled at the soft stop: nothing more is
// taken, what has not started is handed back, what has is finished. work is cancelled at the
// hard deadline. Settling runs on a context of its own, which outlives work by a moment, so
// that a shutdown does not throw away finished work.
package pool
