package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/event"
	"github.com/poolkeeper/poolkeeper/internal/isolation"
	"github.com/poolkeeper/poolkeeper/internal/life"
	"github.com/poolkeeper/poolkeeper/sqlpool"
)

// State says which work a server can do.
type State string

// States of a server.
const (
	StateUnknown  State = "unknown"  // not polled yet
	StateReady    State = "ready"    // the primary takes writes; a replica may be read from
	StateDown     State = "down"     // it does not answer
	StateLagging  State = "lagging"  // a replica more than MaxLag behind
	StatePromoted State = "promoted" // a replica that takes writes while the primary does
	StateDemoted  State = "demoted"  // the primary takes no writes
	StateIsolated State = "isolated" // a replica that serves worse than the others: see Isolation
	StateTrial    State = "trial"    // an isolated replica that gets a part of the reads again
)

// primaryState says what the primary is good for.
func primaryState(o *observation) State {
	switch {
	case o == nil:
		return StateUnknown
	case o.err != nil:
		return StateDown
	case o.readOnly:
		return StateDemoted
	default:
		return StateReady
	}
}

// replicaState says what a replica is good for. One that was promoted may have another past than
// the primary by now. It is read from only if no primary answers that could be the one whose past
// counts.
func replicaState(o *observation, primary State, maxLag time.Duration) State {
	switch {
	case o == nil:
		return StateUnknown
	case o.err != nil:
		return StateDown
	case !o.readOnly && (primary == StateReady || primary == StateUnknown):
		return StatePromoted
	case !o.readOnly:
		return StateReady
	case maxLag > 0 && (o.lag < 0 || o.lag > maxLag):
		return StateLagging
	default:
		return StateReady
	}
}

// roleError says that a server is not what it was configured as.
type roleError string

func (e roleError) Error() string { return string(e) }

// HealthFault makes health.Classify know it.
func (roleError) HealthFault() health.Fault { return health.FaultOf(health.KindReadOnly) }

// reason explains a state that is not StateReady.
func (o *observation) reason(state State, k *kind, maxLag time.Duration) error {
	switch state {
	case StateDown:
		return o.err
	case StateDemoted:
		return k.demoted
	case StatePromoted:
		return k.promoted
	case StateLagging:
		switch {
		case o.lag >= 0:
		case o.gap != nil:
			return fmt.Errorf("how far it is behind is not known: %w; MaxLag is %s", o.gap, maxLag)
		default:
			return fmt.Errorf("how far it is behind is not known; MaxLag is %s", maxLag)
		}
		return fmt.Errorf("%s behind; MaxLag is %s", o.lag.Round(time.Millisecond), maxLag)
	case StateUnknown:
		return errors.New("not polled yet")
	case StateReady, StateIsolated, StateTrial: // the last two are for Members
	}
	return nil
}

// record takes an observation into account.
func (s *set) record(ctx context.Context, m *member, o *observation) {
	cfg := s.conf.Load()
	isPrimary := m == s.members[0]
	var seen isolation.Sample
	if !isPrimary && cfg.Isolation.MinScore > 0 {
		seen = m.sample(o)
	}
	s.mu.Lock()
	now := time.Now()
	if isPrimary {
		s.recordPositionLocked(o, cfg.MaxLag)
	} else {
		o.measure(&s.primary, s.members[0].observed.Load())
		s.scores.Observe(m, now, seen)
	}
	before := m.observed.Swap(o)
	m.suspect = false
	changed := s.chooseLocked(now)
	s.mu.Unlock()

	if o.err == nil && o.readOnly == isPrimary { // it has another role: perhaps the address leads to another server
		if before == nil || before.err != nil || before.readOnly != o.readOnly { // once
			m.server.Replace()
		}
		m.server.Redial(ctx)
	}
	emit(changed)
	if p := s.members[0].observed.Load(); p != nil && p.err == nil {
		s.pollUnsettled()
	}
}

// recordPositionLocked takes the primary's position into account.
func (s *set) recordPositionLocked(o *observation, maxLag time.Duration) {
	switch {
	case o.err != nil || o.readOnly:
	case o.position != nil:
		s.primary.record(o.at, o.position, maxLag)
	default: // what was known gets no newer, and would make every replica look fresh
		s.primary.forget()
	}
}

// step is a change of a member's state, with its event.
type step struct {
	member *member
	event  event.Event
}

func emit(steps []step) {
	for _, s := range steps {
		s.member.events.Emit(s.event)
	}
}

// stepOf returns the step of a change of state.
func stepOf(m *member, from, to State, reason error, standing isolation.State) step {
	e := event.Event{
		Kind: event.MemberLost, Level: slog.LevelWarn, Text: "this server is out of use", Err: reason,
		Attrs: []slog.Attr{slog.String("from", string(from)), slog.String("to", string(to))},
	}
	if to == StateReady {
		e.Kind, e.Level, e.Text, e.Err = event.MemberBack, slog.LevelInfo, "this server is in use", nil
		if standing != isolation.Serving {
			e.Text = "this server is back, and isolated as before"
		}
	}
	return step{m, e}
}

// chooseLocked sets the state of every member and the rotation of Replica. It returns the changes.
func (s *set) chooseLocked(now time.Time) []step {
	cfg := s.conf.Load()
	states := make([]State, len(s.members))
	var changed []step
	for i, m := range s.members {
		o := m.observed.Load()
		if i == 0 {
			states[i] = primaryState(o)
		} else {
			states[i] = replicaState(o, states[0], cfg.MaxLag)
		}
		if states[i] != m.state {
			reason := o.reason(states[i], s.kind, cfg.MaxLag)
			changed = append(changed, stepOf(m, m.state, states[i], reason, s.scores.Standing(m).State))
			m.state, m.since = states[i], now
		}
	}
	changed = append(changed, s.judgeLocked(now)...)
	rotation := s.rotationLocked(states, cfg.Fallback)
	if old := s.rotation.Load(); old == nil || !slices.Equal(*old, rotation) {
		s.rotation.Store(&rotation)
	}
	return changed
}

// rotationLocked picks the pools to read from. It avoids suspects as long as there is another.
func (s *set) rotationLocked(states []State, fallback Fallback) []pool {
	trusted := slices.Clone(states)
	for i, m := range s.members[1:] {
		if m.suspect {
			trusted[i+1] = StateUnknown
		}
	}
	chosen := fit(trusted, fallback)
	if len(chosen) == 0 {
		chosen = fit(states, fallback)
	}
	readable := make([]*member, 0, len(s.members))
	for _, i := range chosen {
		readable = append(readable, s.members[i])
	}
	rotation := make([]pool, 0, len(s.members))
	for _, m := range s.scores.Rotation(readable) {
		rotation = append(rotation, m.pool)
	}
	switch {
	case len(rotation) > 0:
	case s.refuser != nil:
		rotation = append(rotation, s.refuser)
	default: // stopped before it was made: the primary refuses too
		rotation = append(rotation, s.members[0].pool)
	}
	return rotation
}

// fit picks the members to read from, by their states. The first is the primary.
func fit(states []State, fallback Fallback) []int {
	var ready, answering []int
	for i, state := range states[1:] {
		switch state { //nolint:exhaustive // the others cannot be read from
		case StateReady:
			ready = append(ready, i+1)
		case StateLagging:
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

// suspect keeps new reads away from a replica until it has been polled, which is a matter of
// milliseconds: a server that has died would fail many of them meanwhile. Its state is what the
// polls say.
func (s *set) suspect(m *member) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !m.suspect && s.phase == life.Running {
		m.suspect = true
		_ = s.chooseLocked(time.Now()) // no state changes by it
	}
}

// memberObserver is told how the traffic of one pool fares. An error brings the next poll of the
// server forward. Success of a replica says nothing about the component, whose check is the
// primary's.
type memberObserver struct {
	s *set
	m *member
}

// Observe implements poolkeeper.Observer.
func (w *memberObserver) Observe(err error) {
	isPrimary := w.m == w.s.members[0]
	switch {
	case err == nil && !isPrimary:
		return
	case err != nil:
		w.m.errors.Add(1)
		if !isPrimary && lost(err) {
			w.s.suspect(w.m)
		}
		w.m.poller.soon()
	default:
		w.s.observer.Succeeded()
		return
	}
	w.s.observer.Observe(err)
}

// lost reports whether an error leaves no doubt that a connection was lost or refused. A deadline
// may be the caller's own.
func lost(err error) bool {
	switch sqlpool.Classify(err).Kind { //nolint:exhaustive // the rest leaves doubt
	case health.KindRefused, health.KindReset, health.KindUnreachable, health.KindShuttingDown, health.KindStarting:
		return true
	default:
		return false
	}
}
