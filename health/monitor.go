package health

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
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
	epoch  time.Time     // clock zero: all int64 times are nanoseconds since
	offset float64       // random, so that replicas of a service do not probe in step
	drain  chan struct{} // closed once draining is set

	journal *journal // writes the log

	// page is what handlers read. It is stored under mu; when it has expired it may be replaced
	// without, by one made from the same facts and a newer clock: see publish.go.
	page   atomic.Pointer[snapshot]
	expiry *time.Timer // calls expire when page does; set once, by Start

	// mu guards everything below. Nothing slow is done under it: no probe, no callback, no channel
	// send. Probes run without it, so no check can hold it.
	mu         sync.Mutex
	phase      phase
	draining   bool
	latched    int64 // clock at which startup was first true; never: not yet
	holds      []*hold
	checks     []*Registration // by name
	heartbeats []*Heartbeat    // by name; replaced, never changed, because snapshots share it
	registered int             // checks ever registered: spreads phases
	listeners  map[*mailbox]struct{}
	groupTold  map[string]told
	dirty      bool  // something changed that is not published
	publishAt  int64 // clock before which an ordinary change is not published
	sched      scheduler
}

// phase is where the monitor is in its life. It only moves forward.
type phase uint8

const (
	created phase = iota
	running
	stopped
)

// New returns a monitor. It starts nothing; a fault of cfg is returned by Start.
func New(cfg Config) *Monitor {
	m := &Monitor{
		fault:     cfg.Validate(),
		epoch:     time.Now().Add(-1), // so that no clock is 0, which means none
		offset:    rand.Float64(),
		drain:     make(chan struct{}),
		latched:   never,
		listeners: make(map[*mailbox]struct{}),
		groupTold: make(map[string]told),
	}
	if m.fault != nil {
		cfg = Config{OnTransition: cfg.OnTransition, Logger: cfg.Logger}
	}
	m.cfg = cfg.withDefaults()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sched.init(m)
	m.heartbeats = []*Heartbeat{m.sched.heart}
	m.publishLocked(m.now())
	j := newJournal(m.cfg.Logger)
	m.listeners[newCallbackBox(j.take, j.failed)] = struct{}{} // after the first page, which is no change
	if cfg.OnTransition != nil {
		m.listeners[newCallbackBox(cfg.OnTransition, j.failed)] = struct{}{}
	}
	m.journal = j
	return m
}

// now is the monitor's clock: nanoseconds of monotonic time since New.
func (m *Monitor) now() int64 { return int64(time.Since(m.epoch)) }

// wall turns a clock reading into a time to print.
func (m *Monitor) wall(clock int64) time.Time { return m.epoch.Add(time.Duration(clock)) }

// Register adds a check; it may be called before and after Start. The error lists every fault of
// the check, or wraps ErrDuplicate or ErrStopped. Until its first result a critical check is not
// ready.
func (m *Monitor) Register(c Check) (*Registration, error) {
	if err := c.validate(m.cfg); err != nil {
		return nil, err
	}
	r := &Registration{m: m, check: c.withDefaults(m.cfg), slot: -1, index: -1}
	r.lastResult.Store(noResult)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.phase == stopped {
		return nil, fmt.Errorf("health: check %q: %w", c.Name, ErrStopped)
	}
	at, found := slices.BinarySearchFunc(m.checks, c.Name, byName)
	if found {
		return nil, fmt.Errorf("health: check %q: %w", c.Name, ErrDuplicate)
	}
	m.registered++
	r.phase = spread(m.registered, m.offset)
	now := m.now()
	r.verdict = &verdict{since: now}
	m.checks = slices.Insert(m.checks, at, r)
	if m.phase == running { // before Start pages say only that it has not started
		m.planFirstLocked(r, now)
		m.publishLocked(now)
	}
	return r, nil
}

// checkLocked returns the registered check of that name, nil if there is none.
func (m *Monitor) checkLocked(name string) *Registration {
	at, found := slices.BinarySearchFunc(m.checks, name, byName)
	if !found {
		return nil
	}
	return m.checks[at]
}

func byName(r *Registration, name string) int { return strings.Compare(r.check.Name, name) }

// spread places the n-th check in its interval: multiples of the golden ratio are spread evenly for
// every number of checks (Knuth, The Art of Computer Programming, vol. 3, 6.4), where random places
// would clump.
func spread(n int, offset float64) float64 {
	_, frac := math.Modf(float64(n)*(math.Phi-1) + offset)
	return frac
}

// remove takes r out and returns the run that is still in its probe, nil if there is none.
func (m *Monitor) remove(r *Registration) *run {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !r.removed {
		r.removed = true
		if at, found := slices.BinarySearchFunc(m.checks, r.check.Name, byName); found {
			m.checks = slices.Delete(m.checks, at, at+1)
		}
		m.forgetLocked(subject{check: r.check.Name})
		m.sched.drop(r)
		if r.run != nil {
			r.run.cancel()
			r.run.removed = m.now()
			m.giveUpLocked(r)
		}
		now := m.now()
		m.publishLocked(now)
		if m.phase == running {
			m.settleLocked(now, false)
		}
	}
	return r.run
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
	now := m.now()
	for _, h := range m.heartbeats {
		h.Beat()
	}
	m.expiry = time.AfterFunc(math.MaxInt64, m.expire)
	m.startSchedulerLocked(context.WithoutCancel(ctx), now)
	m.publishLocked(now)
	return nil
}

// Stop ends the scheduler, cancels the probes that run, and waits for them and for OnTransition
// until ctx is done; then its error names what hangs. Readiness is false afterwards. It may be
// called before Start, twice and concurrently, but not from OnTransition, which it would wait for.
// Channels of Watch are closed.
func (m *Monitor) Stop(ctx context.Context) error {
	runs, boxes := m.halt()
	var stuck []string
	for _, r := range runs {
		if !await(ctx, r.done) {
			stuck = append(stuck, fmt.Sprintf("probe %q since %s", r.name, stamp(m.wall(r.started))))
		}
	}
	slices.Sort(stuck)
	for _, b := range boxes {
		if !await(ctx, b.delivered()) {
			stuck = append(stuck, "a listener")
		}
	}
	if len(stuck) > 0 {
		return fmt.Errorf("health: stop: still running: %s: %w", strings.Join(stuck, ", "), context.Cause(ctx))
	}
	return nil
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

// halt makes the monitor stopped and returns what to wait for.
func (m *Monitor) halt() ([]*run, []*mailbox) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.phase != stopped {
		m.phase = stopped
		m.stopSchedulerLocked()
		if m.expiry != nil {
			m.expiry.Stop()
		}
		m.publishLocked(m.now())
		for box := range m.listeners {
			box.finish()
		}
		m.journal.stop()
	}
	return slices.Collect(maps.Keys(m.sched.runs)), slices.Collect(maps.Keys(m.listeners))
}

// SetDraining makes readiness false at once and for ever. Every request answered after it returned
// says so.
func (m *Monitor) SetDraining() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.draining {
		m.draining = true
		m.publishLocked(m.now())
		close(m.drain)
	}
}

// Draining returns a channel that is closed by the first SetDraining, after readiness has become
// false: for what serves verdicts over long-lived streams and must end them.
func (m *Monitor) Draining() <-chan struct{} { return m.drain }

// hold is one caller of Hold that has not released.
type hold struct {
	reason string
	since  int64
}

// Hold keeps readiness false until release is called, and startup as well unless it has been true
// before. Holds add up; reason is shown, as one line, in detailed pages. release may be called more
// than once.
func (m *Monitor) Hold(reason string) (release func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := &hold{reason: redact(reason), since: m.now()}
	m.holds = append(slices.Clip(m.holds), h)
	m.publishLocked(h.since)
	return func() { m.release(h) }
}

func (m *Monitor) release(h *hold) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if at := slices.Index(m.holds, h); at >= 0 {
		m.holds = slices.Delete(slices.Clone(m.holds), at, at+1)
		m.publishLocked(m.now())
	}
}
