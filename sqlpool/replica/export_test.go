package replica

import (
	"cmp"
	"context"
	"time"
)

// History lets tests drive the estimate of lag without servers.
type History struct{ h history }

// Record is history.record.
func (h *History) Record(at time.Time, here uint64, keep time.Duration) {
	h.h.record(at, lsn(here), keep)
}

// Lag is history.lag.
func (h *History) Lag(here uint64) (time.Duration, bool) { return h.h.lag(lsn(here)) }

// Len is how many sightings are kept.
func (h *History) Len() int { return len(h.h.seen) }

// MariaDBReaches says whether one position of MariaDB holds all of another.
func MariaDBReaches(here, there string) (bool, error) { return reaches(parseMariaDBGTIDs, here, there) }

// MySQLReaches says whether one set of GTIDs of MySQL holds all of another.
func MySQLReaches(here, there string) (bool, error) { return reaches(parseMySQLGTIDs, here, there) }

func reaches[P position](parse func(string) (P, error), here, there string) (bool, error) {
	a, err := parse(here)
	if err != nil {
		return false, err
	}
	b, err := parse(there)
	return a.reaches(b), err
}

// Told is what a scripted server answers to a poll. Without any of LSN, MariaDB and MySQL it tells no
// position.
type Told struct {
	At             time.Time
	Err            error
	Standby        bool
	LSN            uint64
	MariaDB, MySQL string
	Behind         time.Duration // by its own word
	CaughtUp       bool
	Gap            error
	Took           time.Duration // of the poll; 0: 1 ms
	Failures       int           // errors of the traffic since the last poll
}

// Record takes a scripted poll of a member into account; the primary is 0.
func (s *set) Record(ctx context.Context, member int, told Told) (err error) {
	o := &observation{
		at: told.At, err: told.Err, readOnly: told.Standby, reported: told.Behind, caughtUp: told.CaughtUp,
		gap: told.Gap, lag: unknownLag, took: cmp.Or(told.Took, time.Millisecond),
	}
	s.members[member].errors.Add(uint64(told.Failures))
	switch {
	case told.LSN > 0:
		o.position = lsn(told.LSN)
	case told.MariaDB != "":
		o.position, err = parseMariaDBGTIDs(told.MariaDB)
	case told.MySQL != "":
		o.position, err = parseMySQLGTIDs(told.MySQL)
	}
	s.record(ctx, s.members[member], o)
	return err
}
