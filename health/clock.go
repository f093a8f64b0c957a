package health

import (
	"math"
	"time"
)

// clock reads the monotonic time since it was made, in nanoseconds. 0 means none.
type clock struct{ zero time.Time }

func newClock() clock { return clock{time.Now().Add(-1)} } // so that no reading is 0

func (c clock) now() int64 { return int64(time.Since(c.zero)) }

// wall turns a reading into a time to print.
func (c clock) wall(at int64) time.Time { return c.zero.Add(time.Duration(at)) }

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// never is a reading that does not come.
const never = math.MaxInt64

const (
	backoffFirst = time.Second
	backoffCap   = 30 * time.Second
)

// backoff is the pause before the next run of a failed check after n failed runs: 1 s, 2 s, 4 s …
// up to interval, and never more than 30 s.
func backoff(n int, interval time.Duration) time.Duration {
	most := min(interval, backoffCap)
	d := backoffFirst
	for ; n > 1 && d < most; n-- {
		d *= 2
	}
	return min(d, most)
}

// later is the clock d after at. It saturates: a duration without end is one that ends never.
func later(at int64, d time.Duration) int64 {
	if d > 0 && at > math.MaxInt64-int64(d) {
		return never
	}
	return at + int64(d)
}

// sum adds durations that are not negative, and saturates.
func sum(durations ...time.Duration) time.Duration {
	total := int64(0)
	for _, d := range durations {
		total = later(total, d)
	}
	return time.Duration(total)
}

// part is a part of d between 0 and 1.
func part(d time.Duration, of float64) time.Duration {
	if of >= 1 {
		return d // its float may be above the largest duration
	}
	return time.Duration(of * float64(d))
}

// shorten takes up to jitter's part off d; random is between 0 and 1.
func shorten(d time.Duration, jitter, random float64) time.Duration {
	return d - part(d, jitter*random)
}

// slotStart is the clock at which slot n of an interval begins for a check with that phase; never,
// if that is too far away for a clock.
func slotStart(n int64, interval time.Duration, phase float64) int64 {
	if n > math.MaxInt64/int64(interval) {
		return never
	}
	return later(n*int64(interval), part(interval, phase))
}

// slotAfter is the number of the first slot that begins after now and is not last again. Runs stay
// on this grid, so that checks spread over the interval stay spread for ever: their jitter does not
// add up.
func slotAfter(now int64, interval time.Duration, phase float64, last int64) int64 {
	n := int64(0)
	if into := now - slotStart(0, interval, phase); into >= 0 { // division truncates towards zero
		n = into/int64(interval) + 1
	}
	return max(n, last+1)
}

// spread places the n-th check in its interval: multiples of the golden ratio are spread evenly for
// every number of checks (Knuth, The Art of Computer Programming, vol. 3, 6.4), where random places
// would clump.
func spread(n int, offset float64) float64 {
	_, frac := math.Modf(float64(n)*(math.Phi-1) + offset)
	return frac
}
