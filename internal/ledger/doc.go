// Package ledger remembers every job of a pool and commits completion events, over a [Store]. It
// knows nothing of NATS.
//
// Records of jobs are kept on pages, 16 neighbouring jobs each. Batches that wait to be
// committed go into one atomic write, a group, while the previous one is under way. Every page in
// it expects the sequence at which this replica last saw the page; every event expects to be the
// first of its name. That is the fence:
//
//	Commit ─▶ queue ─▶ group: pages + events ─▶ Store.Apply ─── stored ───▶ done
//	            ▲                                   │
//	            │                                refused, as a whole
//	            │                                   ▼
//	            │                               Store.Read: pages and events
//	            │                                   ├─ the event is there ────▶ done: the own commit had
//	            │                                   │                           been stored, its reply was lost
//	            │                                   ├─ some job is final ─────▶ conflict: another replica was
//	            │                                   │                           first, the caller drops those jobs
//	            └───────────────────────────────────┴─ only neighbours changed: merge and write again
//
// So of two replicas that finish the same job one is refused, and learns of it.
package ledger
