// Package sim runs the real pool, batcher, settling and ledger in virtual time against a
// broker and services that misbehave, and judges what is left by package history. It holds
// tests only.
//
//	            seed ──▶ nemesis: kills, pauses, partitions, outages, refusals, drains, bursts
//	                        │
//	world ◀── broker view ──┤ one view for each replica: what passes it may be lost, late,
//	 jobs, pages, events    │ refused, or done with the reply lost
//	            ▲           ▼
//	            └─ replica: pool.Pool + ledger.Ledger, as in production
//
// A seed fixes the faults: each actor draws from a stream of its own, so that the order in
// which goroutines happen to run does not change what the others meet. It does not fix that
// order itself; a seed that failed is best run several times.
package sim
