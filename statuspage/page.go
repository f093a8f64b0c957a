package statuspage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/guard"
	"github.com/poolkeeper/poolkeeper/internal/printing"
	"github.com/poolkeeper/poolkeeper/lifecycle"
)

// Page is a component that samples the pools of a registry, and the http.Handler that shows them.
// Create it with [New]. All its methods are safe for concurrent use.
//
//	New ──Start──▶ sampling ──Stop──▶ stopped ──Start──▶ sampling …
//	 └── shows the present, without charts ────────┘
//
// While it samples, no goroutine waits: a timer starts one for each sample.
type Page struct {
	cfg     Config // with defaults; never changes
	fault   error  // Start returns it instead of starting; nil if cfg is right
	reg     *lifecycle.Registry
	process Process
	look    *look
	routes  http.Handler
	journal *journal
	viewers *viewers

	state   sync.Mutex // guards the following
	running bool
	timer   *time.Timer   // nil unless running
	sampled chan struct{} // closed when the sample under way is done; nil if there is none

	// work is held while components are asked and pages are made. It guards the following.
	work      sync.Mutex
	interview interview
	words     *words
	past      *history
	folds     *folds
	latest    *moment // the last one; nil before the first

	fell    atomic.Pointer[error] // the last sample that panicked; nil: none has
	samples atomic.Uint64         // so far: a moment of an earlier sample is old
	brief   brief
}

// New returns a page of reg. It subscribes to the events of reg, so that a page made before Start
// shows the start. Config.Validate and Start return the faults of cfg.
func New(reg *lifecycle.Registry, cfg Config) *Page {
	fault := cfg.Validate()
	if reg == nil {
		fault = errors.Join(fault, errors.New("statuspage: registry is nil; give New the registry to show"))
		reg = lifecycle.New(lifecycle.Config{Logger: slog.New(slog.DiscardHandler)})
	}
	if fault != nil {
		cfg = Config{Name: cfg.Name, Allow: cfg.Allow}
	}
	p := &Page{cfg: cfg.withDefaults(), fault: fault, reg: reg, words: newWords()}
	p.process = newProcess(p.cfg.Name, time.Now())
	p.look = newLook()
	p.folds = &folds{look: p.look, made: make(map[string]fold)}
	p.journal = newJournal(p.cfg.Events)
	p.past = newHistory(int(p.cfg.Window / p.cfg.Interval))
	p.viewers = newViewers(p.cfg.MaxViewers)
	p.routes = p.newRoutes()
	reg.Subscribe(p.journal.add)
	return p
}

// Start begins to sample. It does not block.
func (p *Page) Start(context.Context) error {
	if p.fault != nil {
		return p.fault
	}
	p.state.Lock()
	defer p.state.Unlock()
	if p.running {
		return errors.New("statuspage: already started")
	}
	p.running = true
	p.viewers.open()
	p.timer = time.AfterFunc(0, p.tick)
	return nil
}

// Stop ends the sampling and the updates of open pages. It waits for the sample under way, at most
// until ctx ends. The page still answers requests, with the present state.
func (p *Page) Stop(ctx context.Context) error {
	p.viewers.shut()
	p.state.Lock()
	p.running = false
	if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
	sampled := p.sampled
	p.state.Unlock()
	if sampled == nil {
		return nil
	}
	select {
	case <-sampled:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("statuspage: stop: a sample is still under way: %w", context.Cause(ctx))
	}
}

// Restartable reports that the page can be started again.
func (p *Page) Restartable() bool { return true }

// tick takes one sample, and starts the timer anew. Owner: the page; the timer starts it; Stop
// waits for it.
func (p *Page) tick() {
	p.state.Lock()
	if !p.running || p.sampled != nil {
		p.state.Unlock()
		return
	}
	sampled := make(chan struct{})
	p.sampled = sampled
	p.state.Unlock()

	began := time.Now()
	// In guard: a fault of a page must not end the service.
	err := guard.Catch(func() {
		p.sample(began)
		if p.viewers.any() {
			p.viewers.publish(p.shown())
		}
	})
	if err != nil {
		p.fell.Store(&err)
	}

	p.state.Lock()
	defer p.state.Unlock()
	close(sampled)
	p.sampled = nil
	if p.running {
		p.timer = time.AfterFunc(max(p.cfg.Interval-time.Since(began), p.cfg.Interval/2), p.tick)
	}
}

// sample asks every pool and server for its numbers.
func (p *Page) sample(now time.Time) {
	p.work.Lock()
	defer p.work.Unlock()
	p.past.advance(now)
	deadline := now.Add(allPatience)
	for name, c := range p.reg.Components() {
		a := p.interview.ask(name, c, false, deadline)
		if a.stats != nil {
			p.past.addPool(name, now, a.stats)
		}
		if a.server != nil {
			p.past.addServer(name, now, a.server)
		}
	}
	p.samples.Add(1)
}

// current returns the present document. It asks the components once for each sample, or without
// samples once an Interval.
func (p *Page) current() *moment {
	p.work.Lock()
	defer p.work.Unlock()
	return p.currentLocked()
}

// shown is current with its pages made.
func (p *Page) shown() *moment {
	p.work.Lock()
	defer p.work.Unlock()
	m := p.currentLocked()
	p.renderLocked(m)
	return m
}

func (p *Page) currentLocked() *moment {
	n, now := p.samples.Load(), time.Now()
	if m := p.latest; m != nil && m.sample == n && now.Sub(m.doc.At) < p.cfg.Interval {
		return m
	}
	p.latest = newMoment(p.collect(now), n)
	return p.latest
}

// String returns the name of the service.
func (p *Page) String() string { return fmt.Sprintf("statuspage.Page{%q}", p.cfg.Name) }

// Format prints what String returns, for every verb.
func (p *Page) Format(f fmt.State, _ rune) { printing.Format(f, p) }

// LogValue returns what String returns.
func (p *Page) LogValue() slog.Value { return printing.LogValue(p) }
