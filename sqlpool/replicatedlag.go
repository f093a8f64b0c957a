package sqlpool

import (
	"slices"
	"time"
)

// place is how far a server has come in the log of its primary, in the terms of its kind of server.
type place interface {
	// reaches says whether a server that is here has everything that there is at other.
	reaches(other place) bool
}

// positions remembers where in its log the primary was at which time, and so tells how far behind a
// replica is without comparing the clocks of two servers: a replica that has replayed up to a
// position has everything that had been committed when the primary was seen there. An idle primary
// stays where it is, and its replicas stay level with it. It is not safe for concurrent use.
//
//	time of ours    12:00:00   12:00:01   12:00:02   12:00:03
//	the primary at      100        180        180        250
//	a replica at 190: level with the primary of 12:00:02, so 1 s behind
//
// It is told as of the last look at the primary. So it is too low by the time since then; in return
// a primary that is slow to answer, or gone, does not make its replicas look behind: nothing newer
// can be had.
type positions struct {
	seen []position // by rising time and position
}

type position struct {
	first time.Time // when the primary was seen here first
	at    time.Time // and last
	place place
}

// kept is how many positions MaxLag is divided into at least. More would say nothing that MaxLag
// asks for.
const kept = 256

// saw notes that the primary was at here at the given time, or later. Positions from before keep
// are of no use.
func (p *positions) saw(at time.Time, here place, keep time.Duration) {
	n := len(p.seen)
	if n > 0 && !here.reaches(p.seen[n-1].place) {
		p.seen, n = nil, 0 // another server, or another past
	}
	switch {
	case n > 0 && p.seen[n-1].place.reaches(here):
		p.seen[n-1].at = at
	case n > 1 && at.Sub(p.seen[n-2].at) < keep/kept:
		p.seen[n-1] = position{at, at, here}
	default:
		p.seen = append(p.seen, position{at, at, here})
	}
	stale := 0 // one that is too old is kept, so that a replica behind all others can be told to be that old
	for stale+1 < len(p.seen) && at.Sub(p.seen[stale+1].at) > 2*keep {
		stale++
	}
	p.seen = p.seen[stale:]
}

// known says whether the primary has been seen anywhere.
func (p *positions) known() bool { return len(p.seen) > 0 }

// forget drops all positions: the primary does not tell them any more.
func (p *positions) forget() { p.seen = nil }

// lag returns how far a server that is here was behind at the last look at the primary, to within
// one look. known is false if it is before everything that is known of the primary: then it is
// behind by d at least.
func (p *positions) lag(here place) (d time.Duration, known bool) {
	if len(p.seen) == 0 {
		return 0, false
	}
	last := p.seen[len(p.seen)-1].at
	for _, seen := range slices.Backward(p.seen) {
		if here != nil && here.reaches(seen.place) {
			return last.Sub(seen.at), true
		}
	}
	return last.Sub(p.seen[0].first), false
}
