// Package app is the one place that knows everybody: it reads the settings, connects the
// rooms and runs one replica of a pool from its start to its drain.
//
//	environment ─ Load ─▶ Config ─ Run ─▶ connect ▶ streams ▶ source, ledger, services ▶ pool
//	                                          first signal ──▶ readiness 503 ▶ intake ends
//	                                          drain deadline ──▶ work is cut off
package app
