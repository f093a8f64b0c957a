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

// MariaDBReaches says whether one position of MariaDB holds all of another.
func MariaDBReaches(here, there string) (bool, error) { return reaches(parseDomains, here, there) }

// MySQLReaches says whether one set of GTIDs of MySQL holds all of another.
func MySQLReaches(here, there string) (bool, error) { return reaches(parseExecuted, here, there) }

func reaches[P place](parse func(string) (P, error), here, there string) (bool, error) {
	a, err := parse(here)
	if err != nil {
		return false, err
	}
	b, err := parse(there)
	return a.reaches(b), err
}
