// Package fuzzing makes fuzz targets of properties that package rapid checks.
//
//	property ── rapid.Check ─────▶ 100 random runs, in every test
//	         └─ fuzzing.Property ▶ as many as there is time for, led by coverage
//
//	func TestQueueAgreesWithASlice(t *testing.T) { rapid.Check(t, queueAgrees) }
//
//	func FuzzQueueAgreesWithASlice(f *testing.F) { fuzzing.Property(f, queueAgrees) }
//
// A property that needs the test itself, such as for testing/synctest, is given to Bubble. The
// package draws no values, and keeps no corpus. Nothing but tests may import it.
package fuzzing

import (
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// Property fuzzes a property. What rapid draws is made of the fuzzer's bytes.
func Property(f *testing.F, property func(*rapid.T)) {
	f.Helper()
	seed(f)
	f.Fuzz(rapid.MakeFuzz(property))
}

// Bubble fuzzes a property that needs the test in which it runs.
func Bubble(f *testing.F, property func(*testing.T, *rapid.T)) {
	f.Helper()
	seed(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		rapid.MakeFuzz(func(rt *rapid.T) { property(t, rt) })(t, data)
	})
}

// seed adds inputs that are long enough for whole runs: mutation alone would need long to find them.
// rapid takes 8 bytes for most of what it draws, and ends a list by a small number.
func seed(f *testing.F) {
	f.Helper()
	for n, size := range []int{64, 512, 4096, 16384} {
		random := rand.NewChaCha8([32]byte{byte(n)})
		data := make([]byte, size)
		_, _ = random.Read(data) // it never fails
		f.Add(data)
	}
}
