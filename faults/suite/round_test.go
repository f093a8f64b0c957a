package suite_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/lifecycle"
)

// way is how a service uses its library.
type way struct {
	name     string
	raw      bool
	failFast time.Duration
}

var (
	rawWay     = way{name: "raw", raw: true}
	patientWay = way{name: "managed, no fail-fast", failFast: poolkeeper.Off}
	managedWay = way{name: "managed"}
)

// scenario is a fault, and the traffic that goes on meanwhile.
type scenario struct {
	name    string
	on      string                     // the topology that it is for
	only    func(lib library) bool     // nil: every library
	kind    string                     // of the writes, see kindsOf; empty: the plain ones
	data    bool                       // the writes are inserts that are counted, see ledger
	args    func(lib library) []string // of a server for this scenario only; nil: the shared one
	callers func(lib library) callers  // nil: steady traffic whose calls have 500 ms
	setup   func(p *place)             // before the client begins; nil: nothing
	// fault happens. It returns when the server is back for new connections.
	fault func(p *place)
	// spare has a second server run, for the fault to lead to.
	spare bool
	// settle happens after the calls, before a managed client ends. Nil: nothing.
	settle func(p *place)
	// undo returns what the fault left changed, after the round. Nil: nothing.
	undo  func(p *place)
	after time.Duration // for how long calls go on once the server is back; 0: 4 s
	long  bool          // only in the whole suite
	// check looks for what must hold in a round of a managed pool. Nil: nothing in particular.
	check func(tb testing.TB, lib library, w way, o *outcome)
	// worse are columns in which a managed pool may be worse than a raw one, with the reason for
	// docs/reliability.md.
	worse map[string]string
}

// place is where a round happens.
type place struct {
	testing.TB
	*backend // the server that the service is to reach; a fault may replace it

	first    *backend // the server at the beginning
	second   *backend // another one; nil unless the scenario has a spare
	proxy    *testkit.Proxy
	load     *traffic
	lib      library
	chance   *rand.Rand
	client   native
	crowd    int                    // callers beside those of the traffic
	password atomic.Pointer[string] // the one that the application knows
}

// knows gives the application a password.
func (p *place) knows(password string) { p.password.Store(&password) }

// span is a length of a fault: a tenth in the short form.
func (p *place) span(d time.Duration) time.Duration { return span(d) }

func span(d time.Duration) time.Duration {
	if whole() {
		return d
	}
	return d / 10
}

// whole reports whether the suite runs at its full length.
func whole() bool { return testkit.Measuring() }

// begun is a client in use.
type begun struct {
	native

	reg    *lifecycle.Registry
	pool   pool
	log    *lineLog
	stop   *lastWrite
	page   *pages
	sample *sampler
}

// round puts one client through the scenario.
func (s scenario) round(tb testing.TB, b *backend, lib library, w way, seed uint64) *outcome {
	tb.Helper()
	b = s.own(tb, b, lib)
	p := &place{
		TB: tb, backend: b, first: b, lib: lib, proxy: testkit.NewProxy(tb, b.Addr()), chance: rand.New(rand.NewPCG(seed, 0)), //nolint:gosec // to be repeated
	}
	if s.spare {
		p.second = b.fresh()
	}
	p.knows(secret)
	if s.undo != nil {
		defer s.undo(p)
	}
	o := &outcome{managed: !w.raw}
	if s.setup != nil {
		s.setup(p)
	}
	label := fmt.Sprintf("%s %d", tb.Name(), seed)
	labelled(label, func(ctx context.Context) { s.inside(ctx, p, w, seed, o) })
	p.left(label, o)
	return o
}

// own is the server of a round: the shared one, or one that starts and ends with the round.
func (s scenario) own(tb testing.TB, shared *backend, lib library) *backend {
	tb.Helper()
	if lib.topology == "" && s.args == nil {
		return shared
	}
	b := lib.backend()
	if s.args != nil {
		b.args = append(b.args, s.args(lib)...)
	}
	b.begin(tb)
	return b
}

// fits reports whether the scenario is for a library.
func (s scenario) fits(lib library) bool {
	return s.on == lib.topology && (s.only == nil || s.only(lib)) && (s.kind == "" || slices.Contains(kindsOf(lib), s.kind))
}

// inside is a round but for what is left after it.
func (s scenario) inside(ctx context.Context, p *place, w way, seed uint64, o *outcome) {
	p.Helper()
	d := new(dials)
	r := &rig{addr: p.proxy.Addr(), addrs: p.addrs(), conns: p.lib.conns, failFast: w.failFast, dial: d.dial, password: func() string { return *p.password.Load() }}
	c := p.open(r, w)
	p.client = c.native
	who := s.traffic(p.lib)
	write, written := s.write(c.native, seed)
	p.load = begin(context.WithoutCancel(ctx), who, seed, write)
	testkit.Eventually(p, "the traffic flows", func() bool { return p.load.succeeded.Load() > int64(5*who.n) })
	c.observe()
	sleep(time.Duration(p.chance.Float64() * float64(200*time.Millisecond))) // at any moment of the traffic
	lines := c.log.n.Load()
	began := time.Now()
	unlabelled(ctx, func() { s.fault(p) }) // a restarted server is not left over
	back := time.Now()
	after := s.after
	if after == 0 {
		after = 4 * time.Second
	}
	sleep(max(p.span(after), time.Second))
	calls, hanging := p.load.stop()
	who.n += p.crowd
	o.count(calls, began, back, who)
	written.compare(p, o)
	if s.settle != nil {
		s.settle(p)
	}
	o.dials, o.lines = d.peak(began), int(c.log.n.Load()-lines)
	if w.raw {
		closeRaw(c.native)
		return
	}
	c.end(p, o, began, back, hanging, calls)
	if s.check != nil {
		s.check(p, p.lib, w, o)
	}
}

// addrs are where a client finds the server, or the topology.
func (p *place) addrs() []string {
	if p.topology != nil {
		return p.topology
	}
	return []string{p.proxy.Addr()}
}

// write is the form of a call, and the ledger of what it writes if there is one.
func (s scenario) write(c native, seed uint64) (write func(ctx context.Context, n int) error, l *ledger) {
	switch {
	case s.data:
		l = newLedger(seed)
		return l.writer(c.insert), l
	case s.kind != "":
		return c.kinds[s.kind], nil
	}
	return c.write, nil
}

func (s scenario) traffic(lib library) callers {
	if s.callers != nil {
		return s.callers(lib)
	}
	return steady(lib.conns, 500*time.Millisecond)
}

// open makes and starts a client.
func (p *place) open(r *rig, w way) *begun {
	p.Helper()
	c := &begun{log: newLineLog()}
	var err error
	if w.raw {
		if c.native, err = p.lib.raw(r); err != nil {
			p.Fatal(err)
		}
		return c
	}
	r.log = c.logger()
	if c.pool, c.native, err = p.lib.managed(r); err != nil {
		p.Fatal(err)
	}
	c.reg = lifecycle.New(lifecycle.Config{Logger: r.log, ShutdownTimeout: 10 * time.Second})
	c.stop = &lastWrite{client: c.native, reg: c.reg}
	c.reg.Add("orders", c.pool)
	c.reg.Add("service", c.stop, lifecycle.WithDependencies("orders"))
	c.page = newPages(c.reg)
	if err := c.reg.Start(p.Context()); err != nil {
		p.Fatal(err)
	}
	return c
}

// closeRaw closes a raw client. pgxpool waits for its connections for ever, so that it gets 5 s.
func closeRaw(c native) {
	done := make(chan struct{})
	go func() { c.close(); close(done) }()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
	}
}

// left counts what is left of a client. It gets 3 s for that to be nothing.
func (p *place) left(label string, o *outcome) {
	p.Helper()
	var stacks string
	ports := p.first.ports
	if ports == nil {
		_, port, _ := cut(p.proxy.Addr())
		ports = []string{port}
	}
	count := func(limit time.Duration) (sockets, goroutines int) {
		for deadline := time.Now().Add(limit); ; sleep(20 * time.Millisecond) {
			goroutines, stacks = leftGoroutines(p, label)
			sockets = leftSockets(p, ports)
			if goroutines+sockets == 0 || time.Now().After(deadline) {
				return sockets, goroutines
			}
		}
	}
	o.sockets, o.goroutines = count(3 * time.Second)
	lingers := p.lib.lingers()
	if !o.managed || o.goroutines+o.sockets == 0 || lingers > 0 && !whole() { // the short form has no time for that
		return
	}
	if sockets, goroutines := count(lingers); sockets+goroutines > 0 {
		p.Errorf("INV-9: %d sockets and %d goroutines are left:\n%s", sockets, goroutines, stacks)
	}
}

// lastWrite is the part of a service that uses the pool to its end.
type lastWrite struct {
	client native
	reg    *lifecycle.Registry
	err    atomic.Pointer[error]
	ready  atomic.Bool // whether the registry was ready during Drain or Stop
	done   atomic.Bool
}

func (l *lastWrite) Start(context.Context) error { return nil }

func (l *lastWrite) Drain(context.Context) error { l.look(); return nil }

// Stop writes a last time: the pool must still be there.
func (l *lastWrite) Stop(ctx context.Context) error {
	l.look()
	if err := l.client.write(ctx, 0); err != nil {
		l.err.Store(&err)
	}
	l.done.Store(true)
	return nil
}

func (l *lastWrite) look() {
	r := l.reg.Health().Report()
	if r.Ready() {
		l.ready.Store(true)
	}
}

// end shuts the service down, and checks the invariants.
func (c *begun) end(p *place, o *outcome, began, back time.Time, hanging bool, calls []call) {
	p.Helper()
	c.sample.stop()
	o.unready, o.ready = c.sample.turned(began, back)
	c.sample.check(p)
	if hanging {
		p.Error("INV-10: a caller hangs after its context has ended")
	}
	if grace := 5 * time.Second; o.limit > 0 && o.slow > o.limit+grace {
		p.Errorf("INV-10: a call with %s took %s", o.limit, o.slow)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(p.Context()), 10*time.Second)
	defer cancel()
	testkit.Eventually(p, "the traffic is over", func() bool { return c.pool.Stats().InUse == 0 })
	inFlight := make(chan error, 1)
	started := c.pool.Stats().Acquired
	go func() { inFlight <- c.long(ctx, 300*time.Millisecond) }()
	testkit.Eventually(p, "work is in flight", func() bool { return c.pool.Stats().InUse > 0 || c.pool.Stats().Acquired > started })
	err := c.reg.Shutdown(ctx)
	c.shutDown(p, err, <-inFlight)
	p.forgets(p) // INV-9
	c.secrets(p, calls)
	failedStart(p)
}

// shutDown checks how the shutdown went.
func (c *begun) shutDown(p *place, err, inFlight error) {
	p.Helper()
	if err != nil {
		p.Errorf("INV-2: the shutdown ended with %v", err)
	}
	if inFlight != nil {
		p.Errorf("INV-8: work in flight at the shutdown failed: %v", inFlight)
	}
	if err := c.stop.err.Load(); err != nil || !c.stop.done.Load() {
		p.Errorf("INV-1: the last write of the service, before the pool stops: %v", errorOf(err))
	}
	if c.stop.ready.Load() || c.reg.Status().Phase == "up" {
		p.Error("INV-3: ready during the shutdown")
	}
	if s := c.pool.Stats(); s.Open != 0 {
		p.Errorf("INV-9: the pool counts %d open connections after Stop", s.Open)
	}
}

func errorOf(err *error) error {
	if err == nil {
		return errors.New("it was not tried")
	}
	return *err
}
