package suite_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
)

// soakFault is a fault of the soak.
type soakFault struct {
	name   string
	happen func(p *place, d time.Duration)
}

// soakFaults are those that happen in the soak, each for a random time.
func soakFaults() []soakFault {
	return []soakFault{
		{"kill", func(p *place, d time.Duration) { p.crash(d) }},
		{"freeze", func(p *place, d time.Duration) { p.Freeze(p); sleep(d); p.Thaw(p) }},
		{"end all", func(p *place, _ time.Duration) { p.do(p, p.admin.endAll) }},
		{"black hole", func(p *place, _ time.Duration) { p.proxy.BlackHole() }},
		{"new machine", func(p *place, _ time.Duration) { p.proxy.ReplaceMachine() }},
		{"vanish", func(p *place, d time.Duration) {
			p.proxy.BlackHole()
			p.proxy.Mute(true)
			sleep(d)
			p.proxy.Point(p.Addr())
		}},
		{"refuse", func(p *place, d time.Duration) {
			p.proxy.Refuse(p, true)
			p.do(p, p.admin.endAll)
			sleep(d)
			p.proxy.Refuse(p, false)
		}},
		{"full", func(p *place, d time.Duration) { p.fill(p); sleep(d); p.free() }},
	}
}

// outage is one fault that happened.
type outage struct {
	name        string
	began, back time.Time
}

// soaked is what became of one pool.
type soaked struct {
	faults           map[string]int
	up, failed       int // calls while the server was up, and failed
	settled, faulted int // those begun one second after a fault at the earliest, and failed
	goroutines       trend
	sockets          trend
}

// soakText is what the soak has found, for the page that TestFaults writes later.
var soakText string

// Pools live through random faults. A call that begins while its server is up fails at most in the
// second after a fault, and nothing piles up.
//
// INV-4, INV-5, INV-7, INV-9, INV-11, INV-12, INV-14 are checked all the time or at the end.
func TestSoak(t *testing.T) {
	testkit.Slow(t)
	length := 20 * time.Second
	if whole() {
		length = 10 * time.Minute
	}
	var mu sync.Mutex
	results := map[string]*soaked{}
	heap := watchHeap(t)
	t.Run("pools", func(t *testing.T) {
		for _, lib := range libraries() {
			if !inShort(lib) {
				continue
			}
			t.Run(lib.name, func(t *testing.T) {
				t.Parallel()
				s := soak(t, lib, length)
				t.Logf("%s: %s", lib.name, s)
				mu.Lock()
				defer mu.Unlock()
				results[lib.name] = s
			})
		}
	})
	all := soaked{faults: map[string]int{}}
	for _, lib := range libraries() {
		s := results[lib.name]
		if s == nil {
			continue
		}
		all.add(s)
		if s.faulted > 0 {
			t.Errorf("%s: %d of %d calls failed that began one second after a fault or later", lib.name, s.faulted, s.settled)
		}
	}
	heap.stop()
	text := fmt.Sprintf("%s, seed %d. %s\nHeap: %s MiB.\n", length, *seedFlag, all.String(), heap.stop())
	t.Log(text)
	heap.mustNotGrow(t, "heap")
	soakText = text
}

func soak(t *testing.T, lib library, length time.Duration) (out *soaked) {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("to repeat: POOLKEEPER_FULL=1 go test ./suite -run '%s' -seed %d", t.Name(), *seedFlag)
		}
	})
	b := lib.backend()
	b.begin(t)
	p := &place{TB: t, backend: b, first: b, lib: lib, proxy: testkit.NewProxy(t, b.Addr()), chance: rand.New(rand.NewPCG(*seedFlag, uint64(lib.conns)+uint64(len(lib.name))))} //nolint:gosec // to be repeated
	p.knows(secret)
	o := &outcome{managed: true}
	label := t.Name()
	labelled(label, func(ctx context.Context) { out = p.soak(ctx, label, length, o) })
	p.left(label, o)
	return out
}

// soak is one pool's, with random faults until length is over.
func (p *place) soak(ctx context.Context, label string, length time.Duration, o *outcome) *soaked {
	p.Helper()
	d := new(dials)
	c := p.open(&rig{addr: p.proxy.Addr(), conns: p.lib.conns, dial: d.dial, password: func() string { return *p.password.Load() }}, managedWay)
	who := callers{n: p.lib.conns, pause: time.Duration(p.lib.conns) * 5 * time.Millisecond, deadline: 2 * time.Second}
	p.load = begin(context.WithoutCancel(ctx), who, *seedFlag, c.write)
	testkit.Eventually(p, "the traffic flows", func() bool { return p.load.succeeded.Load() > int64(5*who.n) })
	c.observe()
	out := &soaked{faults: map[string]int{}}
	_, port, _ := cut(p.proxy.Addr())
	var outages []outage
	begin := time.Now()
	for time.Since(begin) < length {
		sleep(time.Duration((2 + 3*p.chance.Float64()) * float64(time.Second)))
		n, _ := leftGoroutines(p, label)
		out.goroutines.add(float64(n))
		out.sockets.add(float64(leftSockets(p, []string{port})))
		f := soakFaults()[p.chance.IntN(len(soakFaults()))]
		lasts := time.Duration(p.chance.Float64() * 1.5 * float64(time.Second))
		x := outage{name: f.name, began: time.Now()}
		unlabelled(ctx, func() { f.happen(p, lasts) })
		x.back = time.Now()
		outages = append(outages, x)
		out.faults[f.name]++
	}
	sleep(2 * time.Second)
	calls, hanging := p.load.stop()
	out.count(p, calls, outages)
	out.goroutines.mustNotGrow(p, "goroutines")
	out.sockets.mustNotGrow(p, "sockets")
	o.count(calls, begin, outages[len(outages)-1].back, who)
	c.end(p, o, begin, outages[len(outages)-1].back, hanging, calls)
	return out
}

// count judges the calls by when they began and ended.
func (s *soaked) count(tb testing.TB, calls []call, outages []outage) {
	tb.Helper()
	for i, x := range outages {
		until := time.Now().Add(time.Hour)
		if i+1 < len(outages) {
			until = outages[i+1].began
		}
		for _, k := range calls {
			if k.began.Before(x.back) || k.ended().After(until) {
				continue
			}
			s.up++
			late := k.began.Sub(x.back) > time.Second
			if late {
				s.settled++
			}
			if k.err == nil {
				continue
			}
			s.failed++
			if late {
				s.faulted++
				tb.Logf("%s after %q: %v", k.began.Sub(x.back), x.name, k.err)
			}
		}
	}
}

func (s *soaked) add(other *soaked) {
	for name, n := range other.faults {
		s.faults[name] += n
	}
	s.up, s.failed, s.settled, s.faulted = s.up+other.up, s.failed+other.failed, s.settled+other.settled, s.faulted+other.faulted
	s.goroutines, s.sockets = append(s.goroutines, other.goroutines...), append(s.sockets, other.sockets...)
}

func (s *soaked) String() string {
	var names []string
	for name, n := range s.faults {
		names = append(names, fmt.Sprintf("%d × %s", n, name))
	}
	slices.Sort(names)
	return fmt.Sprintf("%d of %d calls failed that began while the server was up (%.4f %% succeeded); from one second after a fault on: %d of %d. Faults: %s.",
		s.failed, s.up, 100*float64(s.up-s.failed)/float64(max(s.up, 1)), s.faulted, s.settled, strings.Join(names, ", "))
}

// trend is a number over time.
type trend []float64

func (t *trend) add(v float64) { *t = append(*t, v) }

// quarters returns the median of the second quarter, when everything has warmed up, and of the last.
func (t *trend) quarters() (early, late float64) {
	n := len(*t) / 4
	if n == 0 {
		return 0, 0
	}
	middle := func(part []float64) float64 {
		part = slices.Sorted(slices.Values(part))
		return part[len(part)/2]
	}
	return middle((*t)[n : 2*n]), middle((*t)[3*n:])
}

// mustNotGrow allows for a third, and for 20.
func (t *trend) mustNotGrow(tb testing.TB, what string) {
	tb.Helper()
	if early, late := t.quarters(); late > early*4/3+20 {
		tb.Errorf("%s: %.0f in the second quarter, %.0f in the last: %v", what, early, late, *t)
	}
}

// heapWatch measures the live heap every 2 s. The suite's own record of calls is part of it.
type heapWatch struct {
	trend

	quit    chan struct{}
	running sync.WaitGroup
	once    sync.Once
}

func watchHeap(tb testing.TB) *heapWatch {
	tb.Helper()
	w := &heapWatch{quit: make(chan struct{})}
	w.running.Go(func() {
		tick := time.NewTicker(2 * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-w.quit:
				return
			case <-tick.C:
				runtime.GC()
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				w.add(float64(m.HeapAlloc) / (1 << 20))
			}
		}
	})
	tb.Cleanup(func() { w.stop() })
	return w
}

func (w *heapWatch) stop() string {
	w.once.Do(func() { close(w.quit); w.running.Wait() })
	early, late := w.quarters()
	return fmt.Sprintf("%.1f in the second quarter, %.1f in the last", early, late)
}
