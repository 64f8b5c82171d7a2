// Package jobs holds the nouns of Rollcall and its pure rules: what a job is, how a
// delivery is decoded, what a service may answer, what becomes of a job, what the
// ledger remembers and what the completion event says. It performs no I/O, starts no
// goroutine and imports the standard library only.
//
//	Delivery ──Decode──▶ Job ──(batcher)──▶ Batch ──AppendCall──▶ body of a Call
//	                                          │                       │
//	                                          │        CallResult ◀───┘ one per service
//	                                          ▼             │
//	                                   Settlement ◀──Rule───┘
//	                                     │      │
//	                              Page ◀─┘      └─▶ completion event
//
// The types that cross a border between rooms live here, so that pool, bus and service
// never import each other.
package jobs
