// Package interop holds Rollcall against code that nobody of Rollcall wrote: the CloudEvents
// SDK reads its calls, go-httpbin plays its services, the Standard Webhooks library verifies
// its signatures. It is a module of its own, so that users of Rollcall inherit none of these.
//
//	cd interop && go test ./...
package interop
