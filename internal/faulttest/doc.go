// Package faulttest is the harness of the process tier: it starts real workers and real
// nats-servers as child processes, puts services and a TCP fault proxy in front of them,
// loads them, hurts them on purpose, and collects the history that internal/history judges.
//
//	                 ┌────────── test process ───────────┐
//	Load ──PubAcks──▶│                                   │
//	                 │  Proxy ◀── Worker (child) ──HTTP──│──▶ Recorder (records every call)
//	                 │    │                              │
//	                 │    ▼                              │
//	                 │  Broker (child, own store)        │
//	                 └──────────────┬────────────────────┘
//	                                ▼
//	                   accepted, events, calls ──▶ history.Violations
//
// Child processes are the test binary itself, started again with a role in the environment
// (see [Role]), or the worker built once for each run. They die with the test process, they
// listen on loopback only, and what they print is shown when the test fails.
//
// The scenarios that use it are in test/fault behind the build tag "fault".
package faulttest
