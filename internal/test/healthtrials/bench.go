package healthtrials

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"time"
)

// Times of the trials: short enough for real time, long enough for a busy machine.
const (
	interval = 100 * time.Millisecond
	timeout  = 50 * time.Millisecond
	retry    = 20 * time.Millisecond
	// soon is when an ordinary change must have been seen.
	soon = 20 * interval
	// patience bounds what must return at once.
	patience = 2 * time.Second
)

// bench is a subject with what a trial needs around it.
type bench struct {
	Subject

	released chan struct{} // closed at the end of the trial: lets go of every probe that hangs
}

// begin returns a bench and its end, which lets hung probes go and stops the subject.
func begin(ctx context.Context, fresh func() Subject) (*bench, func()) {
	b := &bench{Subject: fresh(), released: make(chan struct{})}
	return b, func() {
		close(b.released)
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		_ = b.Stop(stop) // whether Stop works is a trial of its own
	}
}

// start adds the checks and starts the subject.
func (b *bench) start(ctx context.Context, checks ...Check) error {
	for _, c := range checks {
		orDefault(&c.Interval, interval)
		orDefault(&c.Timeout, timeout)
		orDefault(&c.RetryInterval, min(retry, c.Interval))
		if err := b.Add(c); err != nil {
			return fmt.Errorf("add %q: %w", c.Name, err)
		}
	}
	if err := b.Start(ctx); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	return nil
}

func orDefault(d *time.Duration, value time.Duration) {
	if *d == 0 {
		*d = value
	}
}

// hang is a probe that ignores its context until the trial ends.
func (b *bench) hang(context.Context) error {
	<-b.released
	return nil
}

// answer is what a handler said.
type answer struct {
	code        int
	contentType string
	body        string
}

func (a answer) ok() bool { return a.code == http.StatusOK }

// ask sends one GET, and gives up when the handler does not return.
func ask(ctx context.Context, h http.Handler, accept string) (answer, error) {
	if h == nil {
		return answer{}, fmt.Errorf("no such handler: %w", errors.ErrUnsupported)
	}
	answered := make(chan answer, 1)
	// Owner: this call. Stop signal: the handler returns, at the latest when the trial lets hung
	// probes go. Waiter: this call, for as long as it has patience; a subject that makes it wait
	// longer has failed.
	go func() {
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/", http.NoBody)
		if accept != "" {
			r.Header.Set("Accept", accept)
		}
		h.ServeHTTP(w, r)
		body, _ := io.ReadAll(w.Result().Body) // a recorder's body cannot fail
		answered <- answer{w.Code, w.Header().Get("Content-Type"), string(body)}
	}()
	select {
	case a := <-answered:
		return a, nil
	case <-time.After(patience):
		return answer{}, errors.New("the handler does not answer")
	}
}

// ready asks for readiness.
func (b *bench) ready(ctx context.Context) (answer, error) { return ask(ctx, b.Ready(), "") }

// mustBe wants readiness to be that now.
func (b *bench) mustBe(ctx context.Context, ready bool, when string) error {
	a, err := b.ready(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", when, err)
	}
	if a.ok() != ready {
		return fmt.Errorf("%s: readiness answers %d", when, a.code)
	}
	return nil
}

// mustBecome wants readiness to be that within d.
func (b *bench) mustBecome(ctx context.Context, ready bool, d time.Duration, when string) error {
	err := eventually(d, func() error { return b.mustBe(ctx, ready, when) })
	if err != nil {
		return fmt.Errorf("%w, still after %v", err, d)
	}
	return nil
}

// eventually tries until try succeeds, for d at most.
func eventually(d time.Duration, try func() error) error {
	for end := time.Now().Add(d); ; pause(5 * time.Millisecond) {
		err := try()
		if err == nil || !time.Now().Before(end) {
			return err
		}
	}
}

func pause(d time.Duration) { <-time.After(d) }

// returns reports whether f returns while there is patience.
func returns(f func()) bool {
	done := make(chan struct{})
	// Owner: this call. Stop signal: f returns, at the latest when the trial lets hung probes go.
	// Waiter: this call.
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
		return true
	case <-time.After(patience):
		return false
	}
}

// gauge is a probe that counts its runs and says what it was told to say.
type gauge struct {
	runs atomic.Int64
	mode atomic.Pointer[func(context.Context) error]

	mu    sync.Mutex // guards times
	times []time.Time
}

// become changes what the probe does.
func (g *gauge) become(mode func(context.Context) error) { g.mode.Store(&mode) }

// fail makes it fail with err, nil makes it pass.
func (g *gauge) fail(err error) { g.become(func(context.Context) error { return err }) }

func (g *gauge) probe(ctx context.Context) error {
	g.runs.Add(1)
	g.mu.Lock()
	g.times = append(g.times, time.Now())
	g.mu.Unlock()
	if mode := g.mode.Load(); mode != nil {
		return (*mode)(ctx)
	}
	return nil
}

// starts are the times at which runs began.
func (g *gauge) starts() []time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]time.Time(nil), g.times...)
}

var errBroken = errors.New("broken on purpose")
