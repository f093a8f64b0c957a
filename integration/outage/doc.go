// Package outage measures what a caller pays while its server is gone: the raw libraries beside
// managed pools.
//
// `make bench-outage` prints the table of docs/benchmarks.md. The package has no code of its own
// but tests and benchmarks.
package outage
