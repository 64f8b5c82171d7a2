// Package retry is how the worker tries again: waits that end with their context, back-offs that
// double and differ between replicas, the pause that a server asks for, and one line in the log for a failure
// that lasts.
package retry
