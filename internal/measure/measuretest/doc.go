// Package measuretest makes registries whose numbers are known, for the tests of the exporters.
//
//	synctest.Test(t, func(t *testing.T) {
//		reg := measuretest.Everything(t) // every metric has a sample
//	})
//
// It refuses to start servers: its pools are made of numbers.
package measuretest
