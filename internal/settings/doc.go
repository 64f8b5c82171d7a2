// Package settings reads structs from the environment: every fault at once, secrets from files,
// unknown variables with the nearest name, and the table for the documentation. It knows no
// setting by name; each package owns the struct of its own.
package settings
