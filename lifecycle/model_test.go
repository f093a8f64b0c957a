package lifecycle_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/poolkeeper/poolkeeper/internal/test/fuzzing"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/lifecycle/event"
)

// modelPlan is a random service and what happens to it.
type modelPlan struct {
	nodes    []modelNode
	hold     bool
	shutdown time.Duration // when Shutdown is called, counted from Start
	budget   time.Duration // of Shutdown
	start    time.Duration // budget of Start
	second   bool          // a second, concurrent Shutdown
	cancelAt time.Duration // the context of Shutdown is cancelled then; 0: it is not
	deathAt  time.Duration // when node 0 dies; 0: it does not
	onDeath  lifecycle.DeathPolicy
}

type modelNode struct {
	deps        []int
	ops         bool
	powers      int
	start       script
	drain, stop script
	abort       script
	startLimit  time.Duration
	stopLimit   time.Duration
	tame        bool // nothing in it goes wrong
}

func drawScript(t *rapid.T, name string, wild bool) script {
	s := script{Delay: time.Duration(rapid.IntRange(0, 40).Draw(t, name+" delay")) * 50 * time.Millisecond}
	if !wild {
		return s
	}
	switch rapid.IntRange(0, 9).Draw(t, name+" fate") {
	case 0:
		s.Fail = 1
	case 1:
		s.Panic = "ouch"
	case 2:
		s.Goexit = true
	case 3:
		s.Hang = true
	case 4:
		s.Hang, s.Stubborn = true, true
	case 5:
		s.Stubborn = true
	}
	return s
}

func drawPlan(t *rapid.T) modelPlan {
	wild := rapid.Bool().Draw(t, "wild")
	p := modelPlan{
		hold:   wild && rapid.IntRange(0, 4).Draw(t, "hold") == 0,
		budget: 200 * time.Second, start: 200 * time.Second,
		second: rapid.Bool().Draw(t, "second"),
	}
	n := rapid.IntRange(1, 9).Draw(t, "nodes")
	for i := range n {
		node := modelNode{powers: rapid.IntRange(0, 3).Draw(t, "powers"), tame: !wild || rapid.Bool().Draw(t, "tame")}
		node.ops = rapid.IntRange(0, 5).Draw(t, "ops") == 0
		for d := range i {
			if rapid.IntRange(0, 2).Draw(t, "edge") == 0 && (!node.ops || p.nodes[d].ops) {
				node.deps = append(node.deps, d)
			}
		}
		node.start, node.drain = drawScript(t, "start", !node.tame), drawScript(t, "drain", !node.tame)
		node.stop, node.abort = drawScript(t, "stop", !node.tame), drawScript(t, "abort", !node.tame)
		if wild && rapid.IntRange(0, 3).Draw(t, "limits") == 0 {
			node.startLimit, node.stopLimit = time.Second, time.Second
		}
		p.nodes = append(p.nodes, node)
	}
	if wild {
		p.budget = time.Duration(rapid.IntRange(0, 20).Draw(t, "budget")) * time.Second
		p.start = time.Duration(rapid.IntRange(1, 20).Draw(t, "start budget")) * time.Second
		p.shutdown = time.Duration(rapid.IntRange(-1, 60).Draw(t, "shutdown")) * 250 * time.Millisecond
		p.cancelAt = 333 * time.Millisecond * time.Duration(max(0, rapid.IntRange(-40, 20).Draw(t, "cancel")))
		p.deathAt = 777 * time.Millisecond * time.Duration(max(0, rapid.IntRange(-20, 20).Draw(t, "death")))
		p.onDeath = lifecycle.DeathPolicy(rapid.IntRange(0, 2).Draw(t, "policy"))
		if p.nodes[0].ops && p.onDeath == lifecycle.DeathPolicyRestart {
			p.onDeath = lifecycle.DeathPolicyIgnore
		}
	} else {
		p.shutdown = 500 * time.Second
	}
	return p
}

// modelRun plays a plan in a bubble and collects what it must not see.
type modelRun struct {
	plan  modelPlan
	reg   *lifecycle.Registry
	fakes []*fake

	mu         sync.Mutex // guards the following
	violations []string
	up         map[string]bool // Start has returned nil, and Stop was not called
}

func (m *modelRun) violate(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.violations = append(m.violations, fmt.Sprintf(format, args...))
}

func modelName(i int) string { return fmt.Sprint("n", i) }

// watched is a component that looks around whenever it is called.
type watchedComponent struct {
	lifecycle.Component

	m *modelRun
	i int
}

func (w watchedComponent) Start(ctx context.Context) error {
	w.m.beforeStart(w.i)
	err := errDied
	defer func() { w.m.afterStart(w.i, err) }()
	err = w.Component.Start(ctx)
	return err
}

func (w watchedComponent) Stop(ctx context.Context) error {
	w.m.beforeStop(w.i, "stop")
	return w.Component.Stop(ctx)
}

func (w watchedComponent) Done() <-chan error { return w.m.fakes[w.i].Done() }
func (w watchedComponent) Restartable() bool  { return true }

type watchedDrainer struct{ watchedComponent }

func (w watchedDrainer) Drain(ctx context.Context) error {
	w.m.beforeStop(w.i, "drain")
	return w.Component.(lifecycle.Drainer).Drain(ctx) //nolint:errcheck,forcetypeassert // it has the power
}

type watchedAborter struct{ watchedComponent }

func (w watchedAborter) Abort() error {
	w.m.beforeStop(w.i, "abort")
	return w.Component.(lifecycle.Aborter).Abort() //nolint:errcheck,forcetypeassert // it has the power
}

type watchedBoth struct {
	watchedComponent

	drain watchedDrainer
	abort watchedAborter
}

func (w watchedBoth) Drain(ctx context.Context) error { return w.drain.Drain(ctx) }
func (w watchedBoth) Abort() error                    { return w.abort.Abort() }

// beforeStart: INV-1.
func (m *modelRun) beforeStart(i int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range m.plan.nodes[i].deps {
		if !m.up[modelName(d)] {
			m.violations = append(m.violations, fmt.Sprintf("INV-1: n%d starts before n%d is up", i, d))
		}
	}
	if !m.plan.nodes[i].ops {
		for d, node := range m.plan.nodes {
			if node.ops && !m.up[modelName(d)] {
				m.violations = append(m.violations, fmt.Sprintf("n%d starts before n%d, which is for ops, is up", i, d))
			}
		}
	}
}

func (m *modelRun) afterStart(i int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err == nil {
		m.up[modelName(i)] = true
	}
}

// beforeStop: INV-1 and INV-3.
func (m *modelRun) beforeStop(i int, phase string) {
	if m.reg.Health().Report().Ready() {
		m.violate("INV-3: ready at the %s of n%d", phase, i)
	}
	status := m.reg.Status()
	if status.Components[i].State == lifecycle.StateAbandoned {
		return // given up, and back late: its order is lost
	}
	m.mu.Lock()
	m.up[modelName(i)] = false
	m.mu.Unlock()
	for d, node := range m.plan.nodes {
		if !slices.Contains(node.deps, i) && (!m.plan.nodes[i].ops || node.ops) {
			continue
		}
		if s := status.Components[d].State; s != lifecycle.StateStopped && s != lifecycle.StateAbandoned {
			m.violate("INV-1: %s of n%d while n%d, which needs it, is %s", phase, i, d, s)
		}
	}
}

func (m *modelRun) state(i int) lifecycle.State {
	s := m.reg.Status()
	c, _ := s.Component(modelName(i))
	return c.State
}

func (m *modelRun) add() {
	for i, node := range m.plan.nodes {
		f := &fake{OnStart: node.start, OnDrain: node.drain, OnStop: node.stop, OnAbort: node.abort}
		m.fakes = append(m.fakes, f)
		var opts []lifecycle.Option
		for _, d := range node.deps {
			opts = append(opts, lifecycle.WithDependencies(modelName(d)))
		}
		if node.ops {
			opts = append(opts, lifecycle.WithOps())
		}
		if node.startLimit > 0 {
			opts = append(opts, lifecycle.WithStartTimeout(node.startLimit), lifecycle.WithStopTimeout(node.stopLimit))
		}
		if i == 0 {
			opts = append(opts, lifecycle.WithDeathPolicy(m.plan.onDeath))
		}
		w := watchedComponent{f.As(aborts | drains), m, i}
		var c lifecycle.Component = w
		switch node.powers {
		case 1:
			c = watchedDrainer{w}
		case 2:
			c = watchedAborter{w}
		case 3:
			c = watchedBoth{w, watchedDrainer{w}, watchedAborter{w}}
		}
		m.reg.Add(modelName(i), c, opts...)
	}
}

func (m *modelRun) play() {
	cfg := quiet()
	if m.plan.hold {
		cfg.OnHang = lifecycle.HangPolicyHold
	}
	m.reg = lifecycle.New(cfg)
	m.up = map[string]bool{}
	m.add()

	var all sync.WaitGroup
	var startErr error
	began := time.Now()
	all.Go(func() {
		if m.plan.shutdown < 0 {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), m.plan.start)
		defer cancel()
		startErr = m.reg.Start(ctx)
		m.afterStartReturned(startErr, time.Since(began))
	})
	if m.plan.deathAt > 0 {
		all.Go(func() {
			time.Sleep(m.plan.deathAt)
			m.fakes[0].Die(errDied)
		})
	}
	time.Sleep(m.plan.shutdown)
	calls := 1
	if m.plan.second {
		calls = 2
	}
	errs := make([]error, calls)
	for i := range calls {
		all.Go(func() { errs[i] = m.shutdown() })
	}
	all.Wait()
	m.judge(startErr, errs)
	for _, f := range m.fakes {
		f.Release()
	}
	time.Sleep(time.Hour) // what was given up comes back
	for i := range m.plan.nodes {
		if s := m.state(i); s == lifecycle.StateAbandoned && !m.held(i) {
			m.violate("n%d has come back, and is %s", i, s)
		}
	}
}

func (m *modelRun) shutdown() error {
	ctx, cancel := context.WithTimeout(context.Background(), m.plan.budget)
	defer cancel()
	limit := m.plan.budget
	if m.plan.cancelAt > 0 {
		defer time.AfterFunc(m.plan.cancelAt, cancel).Stop()
		limit = min(limit, m.plan.cancelAt)
	}
	began := time.Now()
	err := m.reg.Shutdown(ctx)
	// What is cut short gets 100 ms to abort everything.
	if took := time.Since(began); took > limit+100*time.Millisecond {
		m.violate("INV-2: Shutdown took %v of %v", took, limit)
	} else if m.plan.cancelAt == 0 && m.plan.budget > 0 && took > limit && !errors.Is(err, lifecycle.ErrAborted) {
		m.violate("INV-2: Shutdown took %v of %v without being cut short", took, limit)
	}
	return err
}

// afterStartReturned: INV-13.
func (m *modelRun) afterStartReturned(err error, took time.Duration) {
	if err == nil || err == lifecycle.ErrShutdown { //nolint:errorlint // refused: it came after the Shutdown
		return
	}
	// The way down has its own time, 25 s, unless a Shutdown took over.
	if limit := max(m.plan.start+25*time.Second, m.plan.shutdown+m.plan.budget) + 200*time.Millisecond; took > limit {
		m.violate("Start took %v, want at most %v", took, limit)
	}
	for i := range m.plan.nodes {
		s := m.state(i)
		if s != lifecycle.StateStopped && s != lifecycle.StateAbandoned {
			m.violate("INV-13: Start has failed, and n%d is %s: %v", i, s, err)
		}
		if s == lifecycle.StateAbandoned && !namedIn(err, modelName(i)) {
			m.violate("INV-13: n%d is abandoned, and not named by Start: %v", i, err)
		}
	}
}

// judge: INV-2 and INV-3, and that all callers got the same.
func (m *modelRun) judge(startErr error, errs []error) {
	if m.reg.Health().Report().Ready() {
		m.violate("INV-3: ready in the end")
	}
	final := m.reg.Shutdown(context.Background())
	for _, err := range errs {
		gaveUp := err != nil && errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, final)
		cancelled := m.plan.cancelAt > 0
		if fmt.Sprint(err) != fmt.Sprint(final) && !gaveUp && !cancelled {
			m.violate("callers got different errors: %v and %v", err, final)
		}
	}
	for i := range m.plan.nodes {
		s := m.state(i)
		if s != lifecycle.StateStopped && s != lifecycle.StateAbandoned {
			m.violate("INV-2: n%d is %s in the end: %v", i, s, final)
		}
		if s == lifecycle.StateAbandoned && !namedIn(final, modelName(i)) {
			m.violate("INV-2: n%d is abandoned, and not named: %v", i, final)
		}
	}
	tame := !slices.ContainsFunc(m.plan.nodes, func(n modelNode) bool { return !n.tame || n.startLimit > 0 })
	if tame && m.plan.deathAt == 0 && m.plan.shutdown == 500*time.Second {
		m.compareWithTwin(startErr, final)
	}
}

// held reports whether n was never asked to stop.
func (m *modelRun) held(i int) bool {
	s := m.reg.Status()
	return s.Components[i].Down.Outcome == event.OutcomeHeld
}

func namedIn(err error, name string) bool {
	found := false
	var walk func(error)
	walk = func(err error) {
		if ce, ok := err.(*lifecycle.ComponentError); ok && ce.Name == name { //nolint:errorlint // a walk
			found = true
		}
		switch u := err.(type) { //nolint:errorlint // a walk
		case interface{ Unwrap() error }:
			if inner := u.Unwrap(); inner != nil {
				walk(inner)
			}
		case interface{ Unwrap() []error }:
			for _, inner := range u.Unwrap() {
				walk(inner)
			}
		}
	}
	if err != nil {
		walk(err)
	}
	return found
}

// compareWithTwin computes in the most naive way how long it all must take, to the nanosecond.
func (m *modelRun) compareWithTwin(startErr, stopErr error) {
	if startErr != nil || stopErr != nil {
		m.violate("nothing went wrong, but: %v, %v", startErr, stopErr)
		return
	}
	nodes := m.plan.nodes
	needs := func(i int) []int {
		deps := slices.Clone(nodes[i].deps)
		for d := range nodes {
			if nodes[d].ops && !nodes[i].ops {
				deps = append(deps, d)
			}
		}
		return deps
	}
	var upAt, downAt func(i int) time.Duration
	upAt = func(i int) time.Duration {
		var begin time.Duration
		for _, d := range needs(i) {
			begin = max(begin, upAt(d))
		}
		return begin + nodes[i].start.Delay
	}
	downAt = func(i int) time.Duration {
		var begin time.Duration
		for d := range nodes {
			if slices.Contains(needs(d), i) {
				begin = max(begin, downAt(d))
			}
		}
		if nodes[i].powers&1 != 0 {
			begin += nodes[i].drain.Delay
		}
		return begin + nodes[i].stop.Delay
	}
	var up, down time.Duration
	for i := range nodes {
		up, down = max(up, upAt(i)), max(down, downAt(i))
	}
	s := m.reg.Status()
	if s.Start.Took != up {
		m.violate("Start took %v, the twin %v", s.Start.Took, up)
	}
	if s.Shutdown.Took != down {
		m.violate("Shutdown took %v, the twin %v", s.Shutdown.Took, down)
	}
}

func TestRandomServicesKeepTheInvariants(t *testing.T) { // INV-1, INV-2, INV-3, INV-13
	rapid.Check(t, func(rt *rapid.T) { randomServicesKeepTheInvariants(t, rt) })
}

func FuzzRandomServicesKeepTheInvariants(f *testing.F) {
	fuzzing.Bubble(f, randomServicesKeepTheInvariants)
}

func randomServicesKeepTheInvariants(t *testing.T, rt *rapid.T) {
	t.Helper()
	run := &modelRun{plan: drawPlan(rt)}
	synctest.Test(t, func(*testing.T) { run.play() })
	for _, v := range run.violations {
		rt.Errorf("%s", v)
	}
}
