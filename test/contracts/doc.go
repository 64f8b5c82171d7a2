// Package contracts compares the files of docs/contracts with what a pool really sends and reads.
// It is a module of its own, so that the schema library is no dependency of Rollcall.
package contracts
