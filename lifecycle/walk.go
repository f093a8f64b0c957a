package lifecycle

import (
	"context"
	"time"

	"github.com/poolkeeper/poolkeeper/lifecycle/event"
)

// walk takes a set of components up or down, each as soon as its last blocker is done: going up, a
// component is blocked by what it depends on; going down, by what depends on it. A component that
// waits costs no goroutine: that of a call begins the calls it has unblocked. The goroutine that
// asked for the walk waits for its end and watches the deadlines (see waitUntilDone).
//
// All fields are guarded by Registry.mu but for those said to be immutable.
type walk struct {
	r       *Registry
	up      bool            // immutable
	ctx     context.Context //nolint:containedctx // parent of the contexts of its calls; immutable
	cancel  context.CancelCauseFunc
	members []*node // immutable

	starts    context.Context //nolint:containedctx // ctx until startsEnd, for components without a StartTimeout; immutable
	startsEnd time.Time       // zero on the way down; immutable

	began    time.Time
	end      time.Time     // when its time is over; cut moves it
	minShare time.Duration // of a component on the way down
	alarm    time.Time     // when check looks at the deadlines next; zero before it has looked first
	left     int           // members that are not done
	over     bool          // it begins nothing more: it failed, or another walk took over
	taken    bool          // another walk took over
	cut      bool          // its time was cut short: from now on abort rather than stop
	ready    []*node       // unblocked, and about to begin
	done     []*node       // in order
	errs     []error

	wake chan struct{} // 1 buffered: look at the state and the clock again; immutable
}

// newWalkLocked makes a walk over members and begins what can begin at once.
func (r *Registry) newWalkLocked(ctx context.Context, up bool, end time.Time, members []*node) *walk {
	now := time.Now()
	w := &walk{
		r: r, up: up, members: members, began: now, end: end, left: len(members),
		minShare: min(end.Sub(now)/minSharePart, minShareLimit),
		done:     make([]*node, 0, len(members)), wake: make(chan struct{}, 1),
	}
	w.ctx, w.cancel = context.WithCancelCause(ctx)
	if up {
		w.startsEnd = end.Add(-min(end.Sub(now)/gracePart, graceLimit))
		starts, cancelStarts := context.WithDeadline(w.ctx, w.startsEnd)
		cancel := w.cancel
		w.starts, w.cancel = starts, func(cause error) { cancel(cause); cancelStarts() }
	}
	w.takeMembersLocked()
	switch {
	case up:
	case r.cutCause != nil:
		w.cutLocked(now, r.cutCause)
	case w.ctx.Err() != nil:
		w.cutLocked(now, context.Cause(w.ctx)) //nolint:contextcheck // w.ctx is made from ctx
	}
	now = time.Now() // counting took its time
	for _, n := range members {
		if n.blockers == 0 && !n.begun {
			w.beginLocked(n, nil, now)
		}
	}
	w.advanceLocked(now)
	return w
}

// takeMembersLocked makes the members those of w, and counts what blocks them.
func (w *walk) takeMembersLocked() {
	for _, n := range w.members {
		n.walk, n.blockers, n.begun, n.done = w, 0, false, false
		if n.labels == nil && n.comp != nil {
			n.labels = w.r.labelsFor(n) //nolint:fatcontext // each is another component's
		}
	}
	for _, n := range w.members {
		for _, id := range w.blockers(n) {
			if w.r.nodes[id].walk == w {
				n.blockers++
			}
		}
	}
}

// blockers are the nodes that must be done before n.
func (w *walk) blockers(n *node) []int32 {
	if w.up {
		return w.r.graph.Deps(n.id)
	}
	return w.r.graph.Dependents(n.id)
}

// blocked are the nodes that wait for n.
func (w *walk) blocked(n *node) []int32 {
	if w.up {
		return w.r.graph.Dependents(n.id)
	}
	return w.r.graph.Deps(n.id)
}

// beginLocked begins with n, last being the node that was done before.
func (w *walk) beginLocked(n, last *node, now time.Time) {
	n.begun = true
	switch {
	case n.comp == nil: // the barrier: done at once, it lies on the critical path all the same
		if w.up {
			n.up.last = last
		} else {
			n.down.last = last
		}
		w.doneLocked(n)
	case w.up:
		w.r.becomeLocked(n, StateStarting, now)
		n.up = step{began: now, last: last}
		w.callLocked(n, phasesUp(n), now)
	default:
		n.down = step{began: now, last: last}
		w.beginDownLocked(n, now)
	}
}

// beginDownLocked stops n, or does what else is right for the state it is in.
func (w *walk) beginDownLocked(n *node, now time.Time) {
	switch {
	case w.cut:
	case !now.Before(w.end) && w.r.tuned.Load().OnHang == HangPolicyHold:
		n.begun = false // check is about to find out that it begins too late
		return
	case w.ctx.Err() != nil: // waitUntilDone is about to find out
		w.cutLocked(now, context.Cause(w.ctx))
	case !now.Before(w.end):
		w.cutLocked(now, context.DeadlineExceeded)
	}
	w.r.unwatchLocked(n, now)
	switch n.state {
	case StateStarting, StateDraining, StateStopping:
		// A call of an earlier walk is under way. It has our deadlines from now on, and goes on
		// from there.
		w.scheduleLocked(n.call, now)
	case StateAdded, StateFailed:
		if _, ok := n.comp.(inert); ok {
			w.r.becomeLocked(n, StateStopping, now)
			w.r.becomeLocked(n, StateStopped, now)
			n.down.outcome = event.OutcomeOK
			w.doneLocked(n)
			return
		}
		w.callLocked(n, phasesAbort(n.comp), now).neverUp = true
	case StateUp, StateCompleted, StateDead:
		if w.cut {
			w.callLocked(n, phasesAbort(n.comp), now).forced = true
			return
		}
		w.callLocked(n, phasesDown(n.comp), now)
	case StateAbandoned:
		// Its Start, or an earlier Stop, hangs. It is named again, because it may still be up.
		n.down.outcome, n.down.err = event.OutcomeAbandoned, n.err
		w.errs = append(w.errs, n.err)
		if _, ok := n.comp.(Aborter); ok {
			w.callLocked(n, abortOnly, now)
			return
		}
		w.doneLocked(n)
	case StateStopped:
		w.doneLocked(n)
	}
}

// The phases that a call can go through.
//
//nolint:gochecknoglobals // constant tables
var (
	startOnly      = []string{event.PhaseStart}
	startAndHealth = []string{event.PhaseStart, event.PhaseHealth}
	drainAndStop   = []string{event.PhaseDrain, event.PhaseStop}
	stopOnly       = []string{event.PhaseStop}
	abortOnly      = []string{event.PhaseAbort}
)

// phasesUp is how a component is started.
func phasesUp(n *node) []string {
	if n.check != nil {
		return startAndHealth
	}
	switch n.comp.(type) {
	case DoneNotifier, Checker, MultiChecker:
		return startAndHealth
	}
	return startOnly
}

// phasesDown is how a component that is up is stopped.
func phasesDown(c Component) []string {
	if _, ok := c.(Drainer); ok {
		return drainAndStop
	}
	return stopOnly
}

// phasesAbort is how a component is stopped that never came up, or for which there is no time.
func phasesAbort(c Component) []string {
	if _, ok := c.(Aborter); ok {
		return abortOnly
	}
	return stopOnly
}

// callLocked begins the call of n in w.
func (w *walk) callLocked(n *node, phases []string, now time.Time) *call {
	c := &n.firstStart
	if !w.up || n.restarts > 0 {
		c = new(call)
	}
	*c = call{Context: w.ctx, r: w.r, n: n, ahead: phases, parts: 1, began: now}
	c.ends = w.scheduleLocked(c, now)
	if c.ends.Equal(w.startsEnd) {
		c.Context = w.starts
	}
	c.beginLocked(now)
	return c
}

// doneLocked ends n's part in w, and begins what has waited for it. It is too early for a node that
// w has taken over and that has not begun.
func (w *walk) doneLocked(n *node) {
	if n.done || !n.begun {
		return
	}
	n.done = true
	w.left--
	if n.comp != nil {
		w.done = append(w.done, n)
	}
	for _, id := range w.blocked(n) {
		m := w.r.nodes[id]
		if m.walk != w {
			continue
		}
		m.blockers--
		if m.blockers == 0 {
			m.unblocked = n
			w.ready = append(w.ready, m)
		}
	}
}

// advanceLocked begins with what was unblocked, and wakes the waiter at the end.
func (w *walk) advanceLocked(now time.Time) {
	for i := 0; i < len(w.ready); i++ { // which beginning makes longer
		n := w.ready[i]
		if !n.begun && !w.over {
			w.beginLocked(n, n.unblocked, now)
		}
	}
	w.ready = w.ready[:0]
	if w.left == 0 || w.over {
		w.poke()
	}
}

// failLocked ends a walk up: nothing more is begun.
func (w *walk) failLocked(err error) {
	w.over = true
	w.errs = append(w.errs, err)
}

// takeOverLocked ends a walk because another one begins.
func (w *walk) takeOverLocked() {
	w.over, w.taken = true, true
	w.poke()
}

// upLocked names the members that are up, or were and are not down yet.
func (w *walk) upLocked() []string {
	var names []string
	for _, n := range w.members {
		if n.comp != nil && n.walk == w && !n.done && n.state != StateAdded && n.state != StateStopped {
			names = append(names, n.name)
		}
	}
	return names
}

// poke makes waitUntilDone look again.
func (w *walk) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// becomeLocked makes n's state next if that may follow, and reports whether it did.
func (r *Registry) becomeLocked(n *node, next State, now time.Time) bool {
	if !n.state.canBecome(next) {
		return false
	}
	n.state, n.since = next, now
	return true
}
