package replica

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// position is how far a server has come in the log of its primary, in the terms of its kind.
type position interface {
	// reaches reports whether a server that is here has everything that there is at other.
	reaches(other position) bool
}

// history is where in its log the primary was at which time. It tells how far behind a replica is
// without comparing the clocks of two servers: a replica that has replayed up to a position has
// everything that had been committed when the primary was seen there. An idle primary stays where
// it is, and its replicas stay level with it. It is not safe for concurrent use.
//
//	time of ours    12:00:00   12:00:01   12:00:02   12:00:03
//	the primary at      100        180        180        250
//	a replica at 190: level with the primary of 12:00:02, so 1 s behind
//
// Lag is as of the last poll of the primary. So it is too low by the time since then. In return a
// primary that is slow to answer, or gone, does not make its replicas look behind: nothing newer
// can be had.
type history struct {
	seen []sighting // by rising time and position
}

// sighting is a stay of the primary at one position.
type sighting struct {
	first, last time.Time
	position    position
}

// sightings is how many sightings MaxLag is divided into at least. More would add nothing that
// MaxLag asks for.
const sightings = 256

// record notes that the primary was at here at the given time, or later. Sightings from before keep
// are of no use.
func (h *history) record(at time.Time, here position, keep time.Duration) {
	n := len(h.seen)
	if n > 0 && !here.reaches(h.seen[n-1].position) {
		h.seen, n = nil, 0 // another server, or another past
	}
	switch {
	case n > 0 && h.seen[n-1].position.reaches(here):
		h.seen[n-1].last = at
	case n > 1 && at.Sub(h.seen[n-2].last) < keep/sightings:
		h.seen[n-1] = sighting{at, at, here}
	default:
		h.seen = append(h.seen, sighting{at, at, here})
	}
	stale := 0 // one that is too old is kept, so that a replica behind all others can be told to be that old
	for stale+1 < len(h.seen) && at.Sub(h.seen[stale+1].last) > 2*keep {
		stale++
	}
	h.seen = h.seen[stale:]
}

// known reports whether a position of the primary is known.
func (h *history) known() bool { return len(h.seen) > 0 }

// forget drops all sightings: the primary reports no positions any more.
func (h *history) forget() { h.seen = nil }

// lag returns how far a server that is here was behind at the last poll of the primary, to within
// one poll. known is false if it is before everything that is known of the primary: then it is
// behind by d at least.
func (h *history) lag(here position) (d time.Duration, known bool) {
	if len(h.seen) == 0 {
		return 0, false
	}
	last := h.seen[len(h.seen)-1].last
	for _, s := range slices.Backward(h.seen) {
		if here != nil && here.reaches(s.position) {
			return last.Sub(s.last), true
		}
	}
	return last.Sub(h.seen[0].first), false
}

// measure fills in a replica's lag. Once a position of the primary is known, only positions count:
// the lag that a replica reports is the age of the last transaction, which grows without end while
// the primary is idle. Until then the reported lag counts. primary is the last observation of the
// primary, or nil.
func (o *observation) measure(h *history, primary *observation) {
	if o.err != nil || !o.readOnly {
		return
	}
	if o.placed = h.known(); o.placed {
		o.measureByPosition(h)
		return
	}
	mute := primary != nil && primary.err == nil && primary.gap != nil // the primary answers, and reports no position
	o.lag = o.reported
	if o.caughtUp && !mute {
		o.lag = 0
	}
	if o.lag < 0 && mute && o.gap != nil {
		o.gap = fmt.Errorf("the primary's %w, and the replica's %w", primary.gap, o.gap)
	}
}

// measureByPosition fills in the lag by the primary's history, or why that does not tell it.
func (o *observation) measureByPosition(h *history) {
	d, known := h.lag(o.position)
	switch {
	case known:
		o.lag = d
	case o.position == nil && o.gap == nil:
		o.gap = errors.New("the server tells no position")
	case o.position != nil:
		why := fmt.Errorf("it has not reached where the primary was %s ago", d.Round(time.Millisecond))
		if o.gap != nil {
			why = fmt.Errorf("%w, and %w", why, o.gap)
		}
		o.gap = why
	}
}

// unsettled reports whether one more poll may tell a lag that this one did not. A replica that was
// a moment behind when the primary was seen first has reached that position by then. One that is
// further behind is not worth the haste.
func (o *observation) unsettled(h *history, moment time.Duration) bool {
	if o == nil || o.err != nil || !o.readOnly || !h.known() {
		return false
	}
	d, known := h.lag(o.position)
	return !o.placed || o.position != nil && !known && d < moment
}
