//go:build race

package fleet_test

// racing: the race detector makes a fleet ten times as slow. It gets a small one, and one scenario.
const racing = true
