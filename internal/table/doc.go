// Package table prints data for people and for programs: tables, JSON, or one JSON object a line.
// Every text passes through [Clean] on its way to a table, wherever it came from, so that no
// service, producer or server can command the terminal of a person who looks on.
package table
