package sqlpool

import "time"

// Positions lets tests drive the estimate of lag without servers.
type Positions struct{ p positions }

// Saw is positions.saw.
func (p *Positions) Saw(at time.Time, here uint64, keep time.Duration) { p.p.saw(at, lsn(here), keep) }

// Lag is positions.lag.
func (p *Positions) Lag(here uint64) (time.Duration, bool) { return p.p.lag(lsn(here)) }

// Len is how many positions are kept.
func (p *Positions) Len() int { return len(p.p.seen) }
