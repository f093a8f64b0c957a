package health

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"

	"github.com/poolkeeper/poolkeeper/internal/redact"
)

var (
	// ErrDuplicate is wrapped by Register and Heartbeat for a name that is taken.
	ErrDuplicate = errors.New("health: duplicate name")
	// ErrStopped is returned by Register and Start after Stop.
	ErrStopped = errors.New("health: monitor is stopped")
)

// Monitor runs checks and knows their verdicts. Create it with [New]. All its methods are safe for
// concurrent use.
//
//	New ──Start──▶ running ──Stop──▶ stopped
//	 │                │                 │
//	 └──────── SetDraining: readiness false from now on, whatever the checks say
//
// Checks and heartbeats can be added and removed at any time before Stop.
type Monitor struct {
	cfg    Config
	fault  error         // of cfg; returned by Start
	clock  clock         // all int64 times are its readings
	offset float64       // random, so that replicas of a service do not probe in step
	drain  chan struct{} // closed once draining is set
	log    *changeLog
	pub    publisher // handlers read its page without mu

	// mu guards everything below, and what state.go and publish.go say it does. Nothing slow is done
	// under it: no probe, no callback, no channel send. Probes run without it, so no check can hold
	// it.
	mu         sync.Mutex
	phase      phase
	draining   bool
	latched    int64 // clock at which startup was first true; never: not yet
	holds      []*hold
	checks     []*checkState // by name
	heartbeats []*heart      // by name; replaced, never changed, because snapshots share it
	registered int           // checks ever registered: spreads phases
	sched      scheduler
}

// New returns a monitor. It starts nothing; a fault of cfg is returned by Start.
func New(cfg Config) *Monitor {
	m := &Monitor{
		fault:   cfg.Validate(),
		clock:   newClock(),
		offset:  rand.Float64(),
		drain:   make(chan struct{}),
		latched: never,
	}
	if m.fault != nil {
		cfg = Config{OnTransition: cfg.OnTransition, Logger: cfg.Logger}
	}
	m.cfg = cfg.withDefaults()
	m.log = newChangeLog(m.cfg.Logger)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sched.init(m.clock, m.cfg.MaxConcurrent, m.finish)
	m.heartbeats = []*heart{m.sched.heart}
	m.pub.init(m.clock)
	m.publishLocked(m.clock.now())
	m.pub.listeners[newCallback(m.log.take, m.log.failed)] = struct{}{} // after the first page, which is no change
	if cfg.OnTransition != nil {
		m.pub.listeners[newCallback(cfg.OnTransition, m.log.failed)] = struct{}{}
	}
	return m
}

// Start begins to run the checks, the first ones at once. ctx is not kept: probes get its values,
// not its end. It returns the faults of the configuration, ctx's error if it is done, ErrStopped
// after Stop, and an error if it is called twice.
func (m *Monitor) Start(ctx context.Context) error {
	if m.fault != nil {
		return m.fault
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch m.phase {
	case running:
		return errors.New("health: monitor is already started")
	case stopped:
		return ErrStopped
	case created:
	}
	m.phase = running
	now := m.clock.now()
	for _, h := range m.heartbeats {
		h.last.Store(now)
	}
	m.pub.start()
	m.sched.start(context.WithoutCancel(ctx), m.checks, now, m.tick)
	m.publishLocked(now)
	return nil
}

// Stop ends the scheduler, cancels the probes that run, and waits for them and for OnTransition
// until ctx is done; then its error names what hangs. Readiness is false afterwards. It may be
// called before Start, twice and concurrently, but not from OnTransition, which it would wait for.
// Channels of Watch are closed.
func (m *Monitor) Stop(ctx context.Context) error {
	runs, listeners := m.halt()
	var stuck []string
	for _, r := range runs {
		if !await(ctx, r.done) {
			stuck = append(stuck, fmt.Sprintf("probe %q since %s", r.name, stamp(m.clock.wall(r.started))))
		}
	}
	slices.Sort(stuck)
	for _, l := range listeners {
		if !await(ctx, l.delivered()) {
			stuck = append(stuck, "a listener")
		}
	}
	if len(stuck) > 0 {
		return fmt.Errorf("health: stop: still running: %s: %w", strings.Join(stuck, ", "), context.Cause(ctx))
	}
	return nil
}

// halt makes the monitor stopped and returns what to wait for.
func (m *Monitor) halt() ([]*run, []*listener) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.phase != stopped {
		m.phase = stopped
		m.sched.stop()
		m.publishLocked(m.clock.now())
		m.pub.stop()
		m.log.stop()
	}
	return slices.Collect(maps.Keys(m.sched.runs)), slices.Collect(maps.Keys(m.pub.listeners))
}

// await reports whether done is closed, now or before ctx ends.
func await(ctx context.Context, done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
	}
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	}
}

// tick is the function of the scheduler's timer.
func (m *Monitor) tick() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.phase != running {
		return
	}
	now := m.clock.now()
	m.settleLocked(now, m.sched.runDue(now))
}

// finish takes the result of a run.
func (m *Monitor) finish(c *checkState, rn *run, res result) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sched.end(c, rn)
	if m.phase != running {
		return
	}
	var heir *checkState
	if at, found := slices.BinarySearchFunc(m.checks, rn.name, byName); found && c.removed {
		heir = m.checks[at]
	}
	now := m.clock.now()
	m.settleLocked(now, m.sched.take(c, rn, res, heir, now))
}

func byName(c *checkState, name string) int { return strings.Compare(c.check.Name, name) }

// settleLocked ends every change of the schedule: it starts what can start, publishes verdicts that
// changed if it is time, and arms the timer.
func (m *Monitor) settleLocked(now int64, changed bool) {
	m.sched.launch(now)
	if m.pub.changed(changed, now) {
		m.publishLocked(now)
	}
	m.sched.arm(now, m.pub.next())
}

func (m *Monitor) publishLocked(now int64) { m.latched = m.pub.publish(m.factsLocked(), now) }

func (m *Monitor) factsLocked() facts {
	f := facts{
		clock: m.clock, phase: m.phase, draining: m.draining, latched: m.latched,
		holds: m.holds, heartbeats: m.heartbeats, checks: make([]fact, len(m.checks)),
	}
	for i, c := range m.checks {
		f.checks[i] = fact{c, c.verdict}
	}
	return f
}

// SetDraining makes readiness false at once and for ever. Every request answered after it returned
// says so.
func (m *Monitor) SetDraining() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.draining {
		m.draining = true
		m.publishLocked(m.clock.now())
		close(m.drain)
	}
}

// Draining returns a channel that is closed by the first SetDraining, after readiness has become
// false: for what serves verdicts over long-lived streams and must end them.
func (m *Monitor) Draining() <-chan struct{} { return m.drain }

// Hold keeps readiness false until release is called, and startup as well unless it has been true
// before. Holds add up; reason is shown, as one line, in detailed pages. release may be called more
// than once.
func (m *Monitor) Hold(reason string) (release func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := &hold{reason: redact.Text(reason), since: m.clock.now()}
	m.holds = append(slices.Clip(m.holds), h)
	m.publishLocked(h.since)
	return func() { m.release(h) }
}

func (m *Monitor) release(h *hold) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if at := slices.Index(m.holds, h); at >= 0 {
		m.holds = slices.Delete(slices.Clone(m.holds), at, at+1)
		m.publishLocked(m.clock.now())
	}
}

// Watch returns a channel that tells every change of a check or a group from now on. A slow reader
// does not block the monitor. Changes of the same check or group that it has not taken yet are
// merged into one. They vanish when they end where they began, or when the check is removed. Call
// Watch first and Report second, then nothing is missed in between.
//
// The channel is closed when ctx ends or the monitor is stopped, which loses what was not taken
// until then.
func (m *Monitor) Watch(ctx context.Context) <-chan Transition {
	ch := make(chan Transition)
	l := newChannel(ch)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.phase == stopped {
		l.finish()
		return ch
	}
	m.pub.listeners[l] = struct{}{}
	l.unhook = context.AfterFunc(ctx, func() {
		m.mu.Lock()
		delete(m.pub.listeners, l)
		m.mu.Unlock()
		l.finish()
	})
	return ch
}

// Format prints the status of readiness and the number of checks, for every verb: fmt would read
// what changes meanwhile, and print errors whose text may hold secrets.
func (m *Monitor) Format(f fmt.State, _ rune) {
	p := m.pub.page.Load()
	_, _ = fmt.Fprintf(f, "health.Monitor{ready: %s, checks: %d}", p.groups[readyAt].status, len(p.checks))
}
