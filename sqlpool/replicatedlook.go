package sqlpool

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/poolkeeper/poolkeeper/health"
)

// sight is what one look at a server has shown. It never changes.
type sight struct {
	at       time.Time     // before the server was asked
	err      error         // nil: it answers
	standby  bool          // it takes no writes
	place    place         // written by a primary, replayed by a standby; nil: not told
	blind    error         // why place or behind was not told, where that can be known
	behind   time.Duration // what a standby says itself, by its own clock; negative: it does not know
	caughtUp bool          // a standby has replayed all it has received
	lag      time.Duration // what it comes to; negative: not known
	placed   bool          // lag was measured when a position of the primary was known
}

const unknownLag = time.Duration(-1)

// question is what a server is asked beside its role.
type question struct {
	lag     bool                  // how far it has come
	reached func(here place) bool // whether that tells its lag, so that its own word is not needed
}

// take runs a question's queries by ask, which gets what is to be filled in, and notes how it went.
func take(ask func(s *sight) error) *sight {
	s := new(sight)
	s.begin()
	s.err = asFault(ask(s))
	return s
}

// begin forgets what was told so far: the server is asked now. What went before, a ping and perhaps
// a dial, is not part of the question.
func (s *sight) begin() { *s = sight{at: time.Now(), lag: unknownLag, behind: unknownLag} }

// measure fills in a standby's lag. Once a position of the primary is known, only positions count:
// a standby's own word is the age of the last transaction, which grows without end while the
// primary is idle. Until then its own word counts. primary is the last sight of the primary, or
// nil.
func (s *sight) measure(p *positions, primary *sight) {
	if s.err != nil || !s.standby {
		return
	}
	if s.placed = p.known(); s.placed {
		s.measureByPlace(p)
		return
	}
	mute := primary != nil && primary.err == nil && primary.blind != nil // it is there, and does not tell where
	s.lag = s.behind
	if s.caughtUp && !mute {
		s.lag = 0
	}
	if s.lag < 0 && mute && s.blind != nil {
		s.blind = fmt.Errorf("the primary's %w, and the replica's %w", primary.blind, s.blind)
	}
}

// measureByPlace fills in the lag by what is known of the primary, or why that does not tell it.
func (s *sight) measureByPlace(p *positions) {
	d, known := p.lag(s.place)
	switch {
	case known:
		s.lag = d
	case s.place == nil && s.blind == nil:
		s.blind = errors.New("the server tells no position")
	case s.place != nil:
		why := fmt.Errorf("it has not reached where the primary was %s ago", d.Round(time.Millisecond))
		if s.blind != nil {
			why = fmt.Errorf("%w, and %w", why, s.blind)
		}
		s.blind = why
	}
}

// unsettled says whether one more look may tell a lag that this one did not. A standby that was a
// moment behind when the primary was seen first has reached that position by then; one that is
// further behind is not worth the haste.
func (s *sight) unsettled(p *positions, moment time.Duration) bool {
	if s == nil || s.err != nil || !s.standby || !p.known() {
		return false
	}
	d, known := p.lag(s.place)
	return !s.placed || s.place != nil && !known && d < moment
}

// MemberState says which work a server of a [Replicated] or [ReplicatedMySQL] can do.
type MemberState string

// States of a member.
const (
	MemberUnknown  MemberState = "unknown"  // not looked at yet
	MemberReady    MemberState = "ready"    // the primary takes writes; a replica may be read from
	MemberDown     MemberState = "down"     // it does not answer
	MemberLagging  MemberState = "lagging"  // a replica more than MaxLag behind
	MemberPromoted MemberState = "promoted" // a replica that is no standby (any more), or not read-only, while the primary takes writes
	MemberDemoted  MemberState = "demoted"  // the primary has become a standby, or read-only: it takes no writes
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

// judgeReplica says what a replica is good for. One that was promoted may have another past than
// the primary by now, and is read from only if no primary answers that could be the one whose past
// counts.
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

// reason explains a state that is not MemberReady.
func (s *sight) reason(state MemberState, kind *dialect, maxLag time.Duration) error {
	switch state {
	case MemberDown:
		return s.err
	case MemberDemoted:
		return kind.demoted
	case MemberPromoted:
		return kind.promoted
	case MemberLagging:
		switch {
		case s.lag >= 0:
		case s.blind != nil:
			return fmt.Errorf("how far it is behind is not known: %w; MaxLag is %s", s.blind, maxLag)
		default:
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

// look looks at one server and draws the consequences. It returns an error if the time that ctx
// leaves ended before the server answered: that tells nothing about the server. LookTimeout ends a
// look too: that does tell something.
func (r *replication) look(ctx context.Context, m *member) error {
	cfg := r.conf.Load()
	own, cancel := ownBound(ctx)
	defer cancel()
	if m.looking.Take(own) != nil {
		return unanswered(ctx, own)
	}
	defer m.looking.End()
	bounded, cancel := context.WithTimeout(own, cfg.LookTimeout)
	defer cancel()
	s := m.pool.look(bounded, r.question(m, cfg))
	if s.err != nil && over(own) {
		return unanswered(ctx, own)
	}
	r.note(ctx, m, s)
	return nil
}

// ownBound gives one member less time than ctx leaves, so that what is known of the others is told
// in time.
func ownBound(ctx context.Context) (context.Context, context.CancelFunc) {
	by, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	left := time.Until(by) * 3 / 4
	return context.WithTimeoutCause(ctx, left, fmt.Errorf("no answer within %s: %w", left.Round(time.Millisecond), context.DeadlineExceeded))
}

// over says whether ctx has ended, or is about to: the network's timers may fire a moment before
// its own.
func over(ctx context.Context) bool {
	by, ok := ctx.Deadline()
	return ctx.Err() != nil || ok && !time.Now().Before(by)
}

// unanswered is why a member was not waited for any longer. own is over.
func unanswered(ctx, own context.Context) error {
	<-own.Done()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return context.Cause(own)
}

// question is what m is to be asked.
func (r *replication) question(m *member, cfg *ReplicatedConfig) question {
	if cfg.MaxLag <= 0 {
		return question{}
	}
	return question{lag: true, reached: func(p place) bool {
		if m == r.members[0] {
			return true // its own word is of no use
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		_, known := r.positions.lag(p)
		return known
	}}
}
