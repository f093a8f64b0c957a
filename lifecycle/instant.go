package lifecycle

import (
	"math"
	"time"
)

// instant is a reading of the registry's monotonic clock: nanoseconds since New, plus one. It is a
// third of the size of a time.Time, of which every component would have a dozen. Zero is never.
type instant int64

// now reads the clock.
func (r *Registry) now() instant { return r.at(time.Now()) }

// at turns a time into an instant, the last one for a time that is further away.
func (r *Registry) at(t time.Time) instant { return instant(1).after(t.Sub(r.birth)) }

// wall turns an instant into a time; never is the zero time.
func (r *Registry) wall(i instant) time.Time {
	if i == 0 {
		return time.Time{}
	}
	return r.birth.Add(time.Duration(i - 1))
}

// since returns how long after earlier i is.
func (i instant) since(earlier instant) time.Duration { return time.Duration(i - earlier) }

// after returns the instant that is d after i, the last one if that is later.
func (i instant) after(d time.Duration) instant {
	if d > 0 && i > math.MaxInt64-instant(d) {
		return math.MaxInt64
	}
	return i + instant(d)
}
