// Package monotime is the clock of every decision: marks, ages, deadlines and back-offs. It never
// goes back, whatever happens to the wall clock, and its readings fit into an atomic.Int64. Wall
// clocks are for printing, and for certificates and tokens, whose expiry is a date.
package monotime

import "time"

// Time is nanoseconds since a moment long before the process started. 0 is never, and before every
// other Time.
type Time int64

// epoch is a century before the process, for the clock of a synctest bubble may begin decades
// before the process did. Now is past it in either.
//
//nolint:gochecknoglobals // the one epoch
var epoch = time.Now().Add(-100 * 365 * 24 * time.Hour)

// Now reads the clock. It does not allocate.
func Now() Time { return Time(time.Since(epoch)) }

// Of returns the Time of a moment that was read from the clock. A time.Time that has lost its
// monotonic reading (one that was parsed, rounded or read from a file) has no Time: it is converted
// by the wall clock, and wrong after that was set.
func Of(t time.Time) Time { return Time(t.Sub(epoch)) }

// Since is how long t is past.
func Since(t Time) time.Duration { return Now().Sub(t) }

// Add returns t moved by d. It saturates instead of wrapping.
func (t Time) Add(d time.Duration) Time {
	sum := t + Time(d)
	switch {
	case d > 0 && sum < t:
		return 1<<63 - 1
	case d < 0 && sum > t:
		return -1 << 63
	}
	return sum
}

// Sub returns the time from u to t.
func (t Time) Sub(u Time) time.Duration { return time.Duration(t - u) }

// Wall returns t for printing.
func (t Time) Wall() time.Time { return time.Now().Add(-Since(t)) }
