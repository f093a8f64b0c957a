package sqlpool

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/poolkeeper/poolkeeper/health"
)

// sight is what one look at a server has shown. It never changes.
type sight struct {
	at       time.Time // before the server was asked
	err      error     // nil: it answers
	standby  bool
	lsn      uint64        // written by a primary, replayed by a standby; 0: not told
	behind   time.Duration // what a standby says itself, by its own clock; negative: it does not know
	caughtUp bool          // a standby has replayed all it has received
	lag      time.Duration // what it comes to; negative: not known
}

const (
	unknownLag = time.Duration(-1)

	lookRole = "select pg_is_in_recovery()"
	// lookAll asks a primary for what it has written out, and a standby for what it has replayed. After a restart a
	// standby has replayed more than it has received.
	lookAll = lookRole + `,
	coalesce((case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end - '0/0')::bigint, 0),
	coalesce(extract(epoch from clock_timestamp() - pg_last_xact_replay_timestamp())::float8, -1),
	coalesce(pg_last_wal_receive_lsn() <= pg_last_wal_replay_lsn(), false)`
)

// look asks the server what it is and how far it has come, on the connection of its checks.
func (p *Postgres) look(ctx context.Context, lag bool) *sight {
	s := &sight{at: time.Now(), lag: unknownLag, behind: unknownLag}
	query := lookRole
	if lag {
		query = lookAll
	}
	s.err = p.back.probe.use(ctx, func(ctx context.Context, c *pgx.Conn) error {
		s.at = time.Now() // what use does first, a ping and perhaps a dial, is not part of the question
		results, err := c.PgConn().Exec(ctx, query).ReadAll()
		if err != nil {
			return err
		}
		if len(results) != 1 || len(results[0].Rows) != 1 {
			return errors.New("the server answers with something else than one row")
		}
		return s.read(results[0].Rows[0])
	})
	s.err = asFault(s.err)
	return s
}

// read takes over one row, in text format.
func (s *sight) read(row [][]byte) error {
	if len(row) == 0 {
		return errors.New("the server answers with no columns")
	}
	s.standby = string(row[0]) == "t"
	if len(row) < 4 {
		return nil
	}
	lsn, err := strconv.ParseInt(string(row[1]), 10, 64)
	if err != nil {
		return fmt.Errorf("position: %w", err)
	}
	behind, err := strconv.ParseFloat(string(row[2]), 64)
	if err != nil {
		return fmt.Errorf("age of what was replayed last: %w", err)
	}
	s.lsn = uint64(max(lsn, 0)) //nolint:gosec // not negative
	if behind >= 0 {
		s.behind = time.Duration(behind * float64(time.Second))
	}
	s.caughtUp = string(row[3]) == "t"
	return nil
}

// measure fills in a standby's lag: against the primary's positions, or as far as those do not reach by what it says
// itself.
func (s *sight) measure(p *positions) {
	if s.err != nil || !s.standby {
		return
	}
	d, known := p.lag(s.lsn)
	switch {
	case s.lsn > 0 && known:
		s.lag = d
	case s.lsn > 0 && len(p.seen) > 0: // it lacks what the primary had when it was seen first
		if s.behind >= 0 {
			s.lag = max(d, s.behind)
		}
	case s.caughtUp:
		s.lag = 0
	default:
		s.lag = s.behind
	}
}

// MemberState is what a server of a [Replicated] is good for.
type MemberState string

// States of a member.
const (
	MemberUnknown  MemberState = "unknown"  // not looked at yet
	MemberReady    MemberState = "ready"    // the primary takes writes; a replica may be read from
	MemberDown     MemberState = "down"     // it does not answer
	MemberLagging  MemberState = "lagging"  // a replica more than MaxLag behind
	MemberPromoted MemberState = "promoted" // a replica that is no standby (any more), while the primary is one that takes writes
	MemberDemoted  MemberState = "demoted"  // the primary has become a standby: it takes no writes
)

// judgePrimary says what the primary is good for.
func judgePrimary(s *sight) MemberState {
	switch {
	case s == nil:
		return MemberUnknown
	case s.err != nil:
		return MemberDown
	case s.standby:
		return MemberDemoted
	default:
		return MemberReady
	}
}

// judgeReplica says what a replica is good for. One that was promoted may have another past than the primary by now, and is read
// from only if no primary answers that could be the one whose past counts.
func judgeReplica(s *sight, primary MemberState, maxLag time.Duration) MemberState {
	switch {
	case s == nil:
		return MemberUnknown
	case s.err != nil:
		return MemberDown
	case !s.standby && (primary == MemberReady || primary == MemberUnknown):
		return MemberPromoted
	case !s.standby:
		return MemberReady
	case maxLag > 0 && (s.lag < 0 || s.lag > maxLag):
		return MemberLagging
	default:
		return MemberReady
	}
}

// roleError says that a server is not what it was configured as.
type roleError string

func (e roleError) Error() string { return string(e) }

// HealthFault makes health.Classify know it.
func (roleError) HealthFault() health.Fault { return health.FaultOf(health.KindReadOnly) }

const (
	errDemoted  roleError = "the server is a standby: it takes no writes"
	errPromoted roleError = "the server is not a standby: it was promoted, or is another's primary"
)

// reason explains a state that is not MemberReady.
func (s *sight) reason(state MemberState, maxLag time.Duration) error {
	switch state {
	case MemberDown:
		return s.err
	case MemberDemoted:
		return errDemoted
	case MemberPromoted:
		return errPromoted
	case MemberLagging:
		if s.lag < 0 {
			return fmt.Errorf("how far it is behind is not known; MaxLag is %s", maxLag)
		}
		return fmt.Errorf("%s behind; MaxLag is %s", s.lag.Round(time.Millisecond), maxLag)
	case MemberUnknown:
		return errors.New("not looked at yet")
	case MemberReady:
	}
	return nil
}

// fit picks what Reader hands out in turn, of the pools by state; the first is the primary.
func fit(states []MemberState, fallback Fallback) []int {
	var ready, answering []int
	for i, s := range states[1:] {
		switch s { //nolint:exhaustive // the others cannot be read from
		case MemberReady:
			ready = append(ready, i+1)
		case MemberLagging:
			answering = append(answering, i+1)
		}
	}
	switch {
	case len(ready) > 0:
		return ready
	case fallback == FallbackNone:
		return nil
	case fallback == FallbackStale && len(answering) > 0:
		return answering
	default:
		return []int{0}
	}
}
