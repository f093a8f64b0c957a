// Package clock tests the pools while the wall clock is set back and forth by an hour, as NTP and
// moved virtual machines do.
//
// Its tests are built with a package time whose wall clock can be set: `make test-clock` does that.
// The monotonic clock goes on meanwhile, and so must everything that the pools decide by.
package clock
