// Package charttest renders the Helm chart beside it, compares the result with golden files,
// reads every object strictly into the Go type of its kind, and has kubeconform hold it against
// the schema of that kind, those of KEDA and the Prometheus operator included. It is a module of its own, so
// that whoever uses Rollcall does not get Helm and Kubernetes with it.
//
//	go test ./...            check
//	go test ./... -update    write the golden files anew
package charttest
