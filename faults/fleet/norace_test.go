//go:build !race

package fleet_test

// racing: see race_test.go.
const racing = false
