package sqlpool

import (
	"context"
	"time"
)

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

// Told is what a scripted server tells a look. Without any of LSN, MariaDB and MySQL it tells no
// position.
type Told struct {
	At             time.Time
	Err            error
	Standby        bool
	LSN            uint64
	MariaDB, MySQL string
	Behind         time.Duration // by its own word
	CaughtUp       bool
	Blind          error
}

// Note takes a scripted look at a member into account; the primary is 0.
func (r *replication) Note(ctx context.Context, member int, told Told) (err error) {
	s := &sight{
		at: told.At, err: told.Err, standby: told.Standby, behind: told.Behind, caughtUp: told.CaughtUp,
		blind: told.Blind, lag: unknownLag,
	}
	switch {
	case told.LSN > 0:
		s.place = lsn(told.LSN)
	case told.MariaDB != "":
		s.place, err = parseDomains(told.MariaDB)
	case told.MySQL != "":
		s.place, err = parseExecuted(told.MySQL)
	}
	r.note(ctx, r.members[member], s)
	return err
}
