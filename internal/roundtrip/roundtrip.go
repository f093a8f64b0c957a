// Package roundtrip decides how long a server may be silent before its connections count as dead.
// The limit follows the round trips that were measured: a slow link is not a dead one.
package roundtrip

import (
	"sync/atomic"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/monotime"
)

// Shortest and Longest bound a Limit that is not configured.
const (
	Shortest = 250 * time.Millisecond
	Longest  = 2 * time.Second
)

const (
	// trips is how many recent round trips a server has for an answer. TCP sends a lost packet
	// again after two or three.
	trips = 4
	// memory is how long a verdict makes the next one wait longer.
	memory = 30 * time.Second
	// mostDoublings takes Shortest to Longest.
	mostDoublings = 3
)

// Patience holds the round trips seen of one server, and the verdicts passed on it. It is safe for
// concurrent use, and its methods do not allocate. The zero value has seen nothing.
type Patience struct {
	recent   atomic.Int64 // a time.Duration: it rises to a longer round trip at once and falls by an eighth per sample
	verdicts atomic.Int64 // passed within memory of each other
	last     atomic.Int64 // a monotime.Time: the last verdict; 0: none
}

// Saw adds a round trip. Of an exchange that takes several, the caller adds a part.
func (p *Patience) Saw(d time.Duration) {
	d = min(max(d, 0), Longest/trips)
	for {
		was := p.recent.Load()
		next := int64(d)
		if next < was {
			next = was - (was-next)/8
		}
		if next == was || p.recent.CompareAndSwap(was, next) {
			return
		}
	}
}

// Recent is the longest round trip seen of late; 0: none was seen.
func (p *Patience) Recent() time.Duration { return time.Duration(p.recent.Load()) }

// Enough is the silence after which an answer is unlikely by what was measured, without the margin
// of Limit.
func (p *Patience) Enough() time.Duration { return trips * p.Recent() }

// Limit is how long the server may be silent: configured, if that is positive, or else four recent
// round trips, from Shortest to Longest, and twice as long for each verdict of the last 30 s.
func (p *Patience) Limit(configured time.Duration) time.Duration {
	if configured > 0 {
		return configured
	}
	limit := max(Shortest, p.Enough())
	if last := monotime.Time(p.last.Load()); last != 0 && monotime.Since(last) < memory {
		limit <<= p.verdicts.Load()
	}
	return min(limit, Longest)
}

// Condemned notes that connections were condemned for their silence. If it did not help, because
// the link is slow, the next verdict takes longer.
func (p *Patience) Condemned() {
	now := monotime.Now()
	last := monotime.Time(p.last.Swap(int64(now)))
	if last == 0 || now.Sub(last) >= memory {
		p.verdicts.Store(1)
		return
	}
	if n := p.verdicts.Load(); n < mostDoublings {
		p.verdicts.CompareAndSwap(n, n+1)
	}
}
