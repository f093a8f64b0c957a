package suite_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/statuspage"
)

// cut splits an address.
func cut(addr string) (host, port string, err error) { return net.SplitHostPort(addr) }

func (c *begun) logger() *slog.Logger { return slog.New(c.log) }

// pages are what the service serves on its port for operations.
type pages struct{ probes, status, open http.Handler }

func newPages(reg *lifecycle.Registry) *pages {
	return &pages{
		probes: health.Handler(reg.Health()),
		status: statuspage.New(reg, statuspage.Config{Name: "suite"}),
		open:   statuspage.New(reg, statuspage.Config{Name: "suite", Allow: func(*http.Request) bool { return true }}),
	}
}

func ask(h http.Handler, path string) (code int, body string) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w.Code, w.Body.String()
}

// moment is whether the registry was ready.
type moment struct {
	at    time.Time
	ready bool
}

// sampler looks at a service again and again while a fault goes on.
type sampler struct {
	c       *begun
	quit    chan struct{}
	running sync.WaitGroup

	mu      sync.Mutex // guards the following
	ready   []moment
	slowest time.Duration     // of what never waits
	broken  map[string]string // an invariant, and what was seen
	looks   int
	over    bool // the last look found more connections than there may be
}

// observe begins to look, every 20 ms, until stop.
func (c *begun) observe() {
	if c.pool == nil {
		return
	}
	s := &sampler{c: c, quit: make(chan struct{}), broken: map[string]string{}}
	c.sample = s
	s.running.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-s.quit:
				return
			case <-tick.C:
				s.look()
			}
		}
	})
}

func (s *sampler) stop() {
	close(s.quit)
	s.running.Wait()
}

// look takes one sample. It never waits for a server, or it shows in slowest.
func (s *sampler) look() {
	began := time.Now()
	st := s.c.pool.Stats()
	report := s.c.reg.Health().Report()
	live, _ := ask(s.c.page.probes, "/livez")
	_, readyz := ask(s.c.page.probes, "/readyz")
	took := time.Since(began)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looks++
	s.slowest = max(s.slowest, took)
	s.ready = append(s.ready, moment{began, report.Ready()})
	over := st.Open > st.Max || st.InUse+st.Idle > st.Open
	if over && s.over { // go-redis gives a place back a moment before it closes the connection
		s.broken["INV-7"] = fmt.Sprintf("%d open, %d in use, %d idle, of %d at most", st.Open, st.InUse, st.Idle, st.Max)
	}
	s.over = over
	for _, k := range report.Checks {
		if age := report.At.Sub(k.LastResult); k.Status == health.StatusPass && age > k.MaxAge {
			s.broken["INV-5"] = fmt.Sprintf("check %s passes with a verdict that is %s old, of %s", k.Name, age, k.MaxAge)
		}
	}
	if live != http.StatusOK {
		s.broken["INV-11"] = fmt.Sprintf("liveness answered %d", live)
	}
	if strings.Contains(readyz, "orders") {
		s.broken["INV-15"] = "a stranger reads the name of a check: " + readyz
	}
	if s.looks%25 == 1 {
		if _, body := ask(s.c.page.status, "/"); strings.Contains(body, "orders") {
			s.broken["INV-15"] = "a stranger reads the name of a component"
		}
	}
}

// check reports what was seen.
func (s *sampler) check(tb testing.TB) {
	tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, what := range s.broken {
		tb.Errorf("%s: %s", name, what)
	}
	// A wait for a server, or for its time-out, would be longer.
	if s.slowest > 2*time.Second {
		tb.Errorf("INV-4, INV-14: probes and statistics took %s in one of %d looks", s.slowest, s.looks)
	}
}

// turned returns when the registry was not ready, after began, and ready again, after back.
func (s *sampler) turned(began, back time.Time) (unready, ready time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	unready, ready = never, never
	for _, m := range s.ready {
		switch {
		case m.at.Before(began):
		case !m.ready && unready == never:
			unready = m.at.Sub(began)
		case !m.ready:
			ready = never
		case m.at.After(back) && ready == never:
			ready = m.at.Sub(back)
		}
	}
	return unready, ready
}

// secrets looks for the passwords wherever they could have got out.
func (c *begun) secrets(tb testing.TB, calls []call) {
	tb.Helper()
	_, page := ask(c.page.open, "/")
	_, doc := ask(c.page.open, "/status.json")
	places := map[string]string{
		"the log": c.log.String(), "the status page": page, "its JSON": doc,
		"the statistics": fmt.Sprintf("%+v", c.pool.Stats()), "the pool, printed": fmt.Sprintf("%+v", c.pool),
	}
	for _, k := range calls {
		if k.err != nil {
			places["an error"] += k.err.Error() + "\n"
		}
	}
	for where, text := range places {
		for _, s := range []string{secret, renewed} {
			if strings.Contains(text, s) {
				tb.Errorf("INV-12: %s has the password", where)
			}
		}
	}
}

// failedStart starts a service whose server is not there. Nothing of it may be left, for which the
// round looks.
func failedStart(p *place) {
	p.Helper()
	d := new(dials)
	nowhere := testkit.FreeAddr(p)
	r := &rig{
		addr: nowhere, addrs: []string{nowhere}, conns: p.lib.conns, dial: d.dial, log: testkit.Silent(),
		password: func() string { return secret },
	}
	orders, _, err := p.lib.managed(r)
	if err != nil {
		p.Error(err)
		return
	}
	reg := lifecycle.New(lifecycle.Config{Logger: r.log, StartTimeout: 300 * time.Millisecond})
	reg.Add("orders", orders)
	if err := reg.Start(p.Context()); err == nil || errors.Is(err, context.Canceled) {
		p.Errorf("INV-13: starting without a server ended with %v", err)
	}
	if s := orders.Stats(); s.Open != 0 || s.Dialing != 0 {
		p.Errorf("INV-13: after a failed start %d connections are open, %d dialed", s.Open, s.Dialing)
	}
}
