// Package devkit is the surroundings of a pool in one process: a nats-server with JetStream
// and demo microservices, all on loopback. It serves `worker demo`, `worker dev`, tests and
// benchmarks; a pool in production never uses it.
//
//	Start ──▶ Server    nats://127.0.0.1:<port>, streams in a directory
//	Serve ──▶ Service   http://127.0.0.1:<port>/jobs, answering by a Behaviour
//	                       └─▶ Journal, what was called, for history.History
package devkit
