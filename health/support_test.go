package health_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
)

// eventually is the one for conditions that real time has to bring about, advance the one for a
// bubble's time.
var (
	eventually = testkit.Eventually
	advance    = testkit.Advance
)

var errDown = errors.New("down on purpose")

// rarely is an interval that no test meets by chance: a run may come at any time in its interval.
const rarely = 10_000 * time.Hour

// script is a probe that does what it was last told to do, and remembers when it was run.
type script struct {
	mode atomic.Pointer[func(context.Context) error]

	mu     sync.Mutex // guards starts
	starts []time.Time
}

func (s *script) do(mode func(context.Context) error) { s.mode.Store(&mode) }
func (s *script) say(err error)                       { s.do(func(context.Context) error { return err }) }

func (s *script) probe(ctx context.Context) error {
	s.mu.Lock()
	s.starts = append(s.starts, time.Now())
	s.mu.Unlock()
	if mode := s.mode.Load(); mode != nil {
		return (*mode)(ctx)
	}
	return nil
}

// runs is how often it was run.
func (s *script) runs() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.starts)
}

// since are the times between start and each run.
func (s *script) since(start time.Time) []time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]time.Duration, len(s.starts))
	for i, at := range s.starts {
		out[i] = at.Sub(start)
	}
	return out
}

// hangUntil ignores its context until release is closed.
func hangUntil(release <-chan struct{}) func(context.Context) error {
	return func(context.Context) error {
		<-release
		return nil
	}
}

// untilDone is a probe that hangs as a good one does: until its context ends.
func untilDone(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// get asks a handler as an orchestrator would.
func get(h http.Handler, target string, header ...string) *httptest.ResponseRecorder {
	return request(h, http.MethodGet, target, header...)
}

func request(h http.Handler, method, target string, header ...string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(method, target, http.NoBody)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	h.ServeHTTP(w, r)
	return w
}

func everybody(*http.Request) bool { return true }

// register adds a check or ends the test.
func register(tb testing.TB, m *health.Monitor, c health.Check) *health.Registration {
	tb.Helper()
	r, err := m.Register(c)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// start starts m and stops it at the end of the test.
func start(tb testing.TB, m *health.Monitor) {
	tb.Helper()
	if err := m.Start(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { stop(tb, m) })
}

func stop(tb testing.TB, m *health.Monitor) {
	tb.Helper()
	if err := m.Stop(testkit.Within(tb, 10*time.Second)); err != nil {
		tb.Error(err)
	}
}

// wantReady wants readiness to answer that now, on the page and in the report.
func wantReady(tb testing.TB, m *health.Monitor, ready bool, when string) {
	tb.Helper()
	code := http.StatusServiceUnavailable
	if ready {
		code = http.StatusOK
	}
	if w := get(health.Handler(m), "/readyz"); w.Code != code {
		tb.Errorf("%s: /readyz answers %d, want %d", when, w.Code, code)
	}
	if r := m.Report(); r.Ready() != ready {
		g, _ := r.Group(health.GroupReady)
		tb.Errorf("%s: the report says ready %t (%s)", when, r.Ready(), g.Reason)
	}
}

// groupOK is whether the report says that a group passes or warns.
func groupOK(m *health.Monitor, group string) bool {
	g, ok := m.Report().Group(group)
	return ok && g.Status.OK()
}

// settle lets everything happen that is due now: the first runs of up to fifty checks, and the
// publication of their verdicts.
func settle() { advance(10 * time.Millisecond) }
