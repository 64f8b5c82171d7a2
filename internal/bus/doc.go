// Package bus is everything NATS: the connection, the streams and the consumer, the source
// that hands out jobs, the store of the ledger, dead letters, upkeep.
//
//	         Source ◀── pull requests, deliveries ──▶ JOBS     work queue
//	           │                                       ▲
//	(pool)     ▼                                       │ ack, nak, +WPI
//	         ledger.Store ── one atomic publish ─────▶ DONE     pages and events
//	                                                    │ republish, once committed
//	         DeadLetters ─────────────────────────────▶ DEAD    ▼
//	         ledger.Upkeep ── purges old pages ───────▶ DONE    batches.<pool>.<outcome>.<id>
//
// Subjects are made in subjects.go and nowhere else.
package bus
