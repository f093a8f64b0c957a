package eviction

import "time"

// Planner gives tests the pure core.
type Planner struct{ c *planner }

// Plan is what a round is to do.
type Plan struct {
	Sweep bool
	Order Sweep
	Fill  int
}

// NewPlanner returns the core as an evictor makes it at Start.
func NewPlanner(p Policy, now time.Time) Planner { return Planner{newPlanner(p, now)} }

func (p Planner) Plan(now time.Time, open, peak int) Plan {
	out := p.c.plan(now, open, peak)
	return Plan{Sweep: out.sweep, Order: out.order, Fill: out.fill}
}

func (p Planner) SetPolicy(policy Policy, now time.Time) { p.c.setPolicy(policy, now) }
func (p Planner) Swept(decided, next time.Time)          { p.c.swept(decided, next) }
func (p Planner) Filled(now time.Time, failed bool)      { p.c.filled(now, failed, 1) }
func (p Planner) Next(now time.Time, open int) (at time.Time, attentive bool) {
	return p.c.next(now, open)
}

// Asleep reports whether the evictor waits for Wake.
func (e *Evictor) Asleep() bool { return e.asleep.Load() }

// Window is the sliding-window maximum.
type Window struct{ w window }

func (w *Window) Add(at time.Time, value int) { w.w.add(at, value) }
func (w *Window) Forget(t time.Time)          { w.w.forget(t) }
func (w *Window) Max() int                    { return w.w.max() }
func (w *Window) Len() int                    { return len(w.w.samples) - w.w.head }

// Tick does what the timer does.
func (e *Evictor) Tick() { e.tick() }

// StopTimer loses the timer, as no runtime should.
func (e *Evictor) StopTimer() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.timer.Stop()
}
