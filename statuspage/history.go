package statuspage

import (
	"time"

	"github.com/poolkeeper/poolkeeper"
)

// recently is the span of Recent.
const recently = time.Minute

// point is one pool at one sample.
type point struct {
	ok                        bool // the pool answered
	inUse, idle, max, waiting int32
	measured                  uint64  // acquisitions since the sample before
	p50, p99                  float64 // of them, in seconds
}

// mark holds the counters at a sample, to tell what happened after it.
type mark struct {
	at                                      time.Time
	wait                                    poolkeeper.Histogram
	acquired, dialErrors, timeouts, refused uint64
	requests                                uint64 // of a server
}

// series is the history of one component: a ring of points that share the timeline's positions, and
// the marks of the last minute.
type series struct {
	points []point
	marks  []mark // oldest first; never empty after the first answer
}

// history holds the samples of the last Window. The caller locks.
//
//	times   [ t₇ t₈ t₃ t₄ t₅ t₆ ]     next is the place of the oldest
//	series  [ p₇ p₈ p₃ p₄ p₅ p₆ ]     one ring for each pool
type history struct {
	times  []time.Time // a ring
	next   int
	series map[string]*series
}

func newHistory(samples int) *history {
	return &history{times: make([]time.Time, samples), series: make(map[string]*series)}
}

// advance opens the place for a new sample.
func (h *history) advance(at time.Time) {
	h.times[h.next] = at
	for _, s := range h.series {
		if s.points != nil {
			s.points[h.next] = point{}
		}
	}
	h.next = (h.next + 1) % len(h.times)
}

func (h *history) of(name string) *series {
	s := h.series[name]
	if s == nil {
		s = &series{}
		h.series[name] = s
	}
	return s
}

// addPool notes what a pool answered at the sample that advance has opened.
func (h *history) addPool(name string, at time.Time, s *poolkeeper.Stats) {
	to := h.of(name)
	if to.points == nil {
		to.points = make([]point, len(h.times))
	}
	p := point{
		ok: true, inUse: int32(s.InUse), idle: int32(s.Idle), //nolint:gosec // no pool has 2³¹ connections
		max: int32(s.Max), waiting: int32(s.Waiting), //nolint:gosec // the same
	}
	if n := len(to.marks); n > 0 {
		last := to.marks[n-1]
		waits := since(s.Wait, last.wait)
		p.measured, p.p50, p.p99 = waits.Count, quantile(waits, 0.5), quantile(waits, 0.99)
	}
	to.points[(h.next+len(h.times)-1)%len(h.times)] = p
	to.mark(mark{
		at: at, wait: s.Wait, acquired: s.Acquired, dialErrors: s.DialErrors, timeouts: s.AcquireTimeouts, refused: s.Refused,
	})
}

// addServer notes what a server answered.
func (h *history) addServer(name string, at time.Time, s *poolkeeper.ServerStats) {
	h.of(name).mark(mark{at: at, requests: s.Requests})
}

// mark appends m, and forgets what is older than the last minute but for one mark.
func (s *series) mark(m mark) {
	old := 0
	for old+1 < len(s.marks) && m.at.Sub(s.marks[old+1].at) >= recently {
		old++
	}
	s.marks = append(s.marks[:copy(s.marks, s.marks[old:])], m)
}

// recent returns what callers of a pool saw in the last minute.
func (h *history) recent(name string) Recent {
	s := h.series[name]
	if s == nil || len(s.marks) == 0 {
		return Recent{}
	}
	first, last := s.marks[0], s.marks[len(s.marks)-1]
	waits := since(last.wait, first.wait)
	if len(s.marks) == 1 {
		waits = poolkeeper.Histogram{}
	}
	r := Recent{
		Over: last.at.Sub(first.at).Seconds(), Acquired: grown(last.acquired, first.acquired), Measured: waits.Count,
		AcquireP50: quantile(waits, 0.5), AcquireP99: quantile(waits, 0.99),
		DialErrors: grown(last.dialErrors, first.dialErrors), Timeouts: grown(last.timeouts, first.timeouts),
		Refused: grown(last.refused, first.refused),
	}
	h.each(s, func(at time.Time, p point) {
		if p.ok && last.at.Sub(at) <= recently {
			r.MaxInUse, r.MaxWaiting = max(r.MaxInUse, int(p.inUse)), max(r.MaxWaiting, int(p.waiting))
		}
	})
	return r
}

// rate returns the requests of a server a second over the last minute.
func (h *history) rate(name string) float64 {
	s := h.series[name]
	if s == nil || len(s.marks) < 2 {
		return 0
	}
	first, last := s.marks[0], s.marks[len(s.marks)-1]
	return float64(grown(last.requests, first.requests)) / last.at.Sub(first.at).Seconds()
}

// grown is how much a counter grew; 0 if it began anew.
func grown(now, before uint64) uint64 {
	if now < before {
		return 0
	}
	return now - before
}

// each calls fn for the points of s, the oldest first.
func (h *history) each(s *series, fn func(at time.Time, p point)) {
	if s == nil || s.points == nil {
		return
	}
	for i := range h.times {
		if at := (h.next + i) % len(h.times); !h.times[at].IsZero() {
			fn(h.times[at], s.points[at])
		}
	}
}
