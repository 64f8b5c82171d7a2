// Package composetest holds the rules of docker-compose.yml as tests, and runs the whole of it
// under a real Docker engine. It is a module of its own, so that whoever uses Rollcall does not
// get the Compose library with it:
//
//	go test ./...                 the rules; needs no engine
//	go test -tags e2e ./e2e       the end-to-end run; scripts/e2e.sh prepares the engine
package composetest
