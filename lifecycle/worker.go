package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/inflight"
	"github.com/poolkeeper/poolkeeper/internal/printing"
	"github.com/poolkeeper/poolkeeper/internal/stacks"
)

// Worker makes a component of a function that runs until its context ends: a consumer, a scheduler,
// a loop. It is up as soon as its goroutine runs; Stop cancels the context and waits for fn to
// return. When fn returns before that, nil means that it has completed what it was for, and an
// error, a panic or runtime.Goexit that it died (see [WithDeathPolicy]). A worker can be started
// again.
//
// If fn is still running when the context of Stop ends, Stop returns an error that wraps
// ErrStopTimeout.
func Worker(fn func(ctx context.Context) error) Component {
	if fn == nil {
		return nil
	}
	return &worker{fn: fn}
}

// Go adds a goroutine as a component: it is Add with a [Worker]. With WithDependencies it is
// cancelled, and waited for, before what it uses is closed.
func (r *Registry) Go(name string, fn func(ctx context.Context) error, opts ...Option) {
	r.Add(name, Worker(fn), opts...)
}

type worker struct {
	fn func(context.Context) error

	mu  sync.Mutex // guards the following
	run *workerRun // the current one, or the last; nil before Start
}

// workerRun is one run of a worker's function.
type workerRun struct {
	cancel context.CancelFunc
	died   chan error    // 1 buffered: gets the result
	over   chan struct{} // closed when fn has returned
	err    error         // set before over is closed
}

var errWorkerRuns = errors.New("lifecycle: worker is already running")

// Start runs the function.
func (w *worker) Start(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.run != nil && !w.run.isOver() {
		return errWorkerRuns
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	w.run = &workerRun{cancel: cancel, died: make(chan error, 1), over: make(chan struct{})}
	go w.run.work(ctx, w.fn)
	return nil
}

// work is the worker's goroutine. Owner: the worker; its context stops it; Stop waits for it.
func (run *workerRun) work(ctx context.Context, fn func(context.Context) error) {
	err := errGoexit // stays if fn neither returns nor panics
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: stacks.Print(stacks.Callers(1))}
		}
		run.err = err
		if ctx.Err() == nil {
			run.died <- err
		}
		run.cancel()
		close(run.over)
	}()
	err = fn(ctx)
}

func (run *workerRun) isOver() bool {
	select {
	case <-run.over:
		return true
	default:
		return false
	}
}

// Stop cancels the function and waits for it.
func (w *worker) Stop(ctx context.Context) error {
	w.mu.Lock()
	run := w.run
	w.mu.Unlock()
	if run == nil || run.isOver() {
		return nil // what it returned was told by Done
	}
	began := time.Now()
	run.cancel()
	select {
	case <-run.over:
	case <-ctx.Done():
		return fmt.Errorf("%w: worker runs on %s after it was cancelled: %w", ErrStopTimeout,
			printing.Round(time.Since(began)), context.Cause(ctx))
	}
	if errors.Is(run.err, context.Canceled) {
		return nil
	}
	return run.err
}

// Done gets what the function returned of itself.
func (w *worker) Done() <-chan error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.run == nil {
		return nil
	}
	return w.run.died
}

// Restartable is true.
func (w *worker) Restartable() bool { return true }

func (w *worker) inert() {}

// Group is a component of goroutines that come and go while the service runs: what a handler leaves
// to be done after the response. Its zero value is ready to be added. Make it depend on what the
// goroutines use, and what calls Go depend on it: then they are through, or were cancelled and
// waited for, before anything they use is closed.
//
//	Drain   refuses new goroutines and waits for those that run
//	Stop    cancels those that still run, and waits for them
//
// A goroutine that panics or calls runtime.Goexit is the death of the group (see
// [WithDeathPolicy]). A group can be started again. All its methods are safe for concurrent use.
type Group struct {
	mu  sync.Mutex // guards the following
	run *groupRun  // the current one, or the last; nil before Start
}

// groupRun is a group between its start and its stop.
type groupRun struct {
	ctx    context.Context //nolint:containedctx // of its goroutines
	cancel context.CancelFunc
	gate   *inflight.Gate
	died   chan error // 1 buffered
}

// errGroupIdle is returned by Go before Start.
var errGroupIdle = errors.New("lifecycle: group is not started")

// Go runs fn on a goroutine of the group, at once. The context of fn carries the values of the
// group's Start, not those of the caller's request, and ends when the group is stopped. Go returns
// an error, and does not run fn, before Start and once the group drains (poolkeeper.ErrDraining).
func (g *Group) Go(fn func(ctx context.Context)) error {
	g.mu.Lock()
	run := g.run
	g.mu.Unlock()
	switch {
	case run == nil:
		return errGroupIdle
	case !run.gate.Enter():
		return fmt.Errorf("lifecycle: group: %w", poolkeeper.ErrDraining)
	}
	go run.work(fn)
	return nil
}

// work is a goroutine of the group. Owner: the group; its context stops it; Drain and Stop wait for
// it.
func (run *groupRun) work(fn func(context.Context)) {
	err := errGoexit // stays if fn neither returns nor panics
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: stacks.Print(stacks.Callers(1))}
		}
		if err != nil {
			select {
			case run.died <- err:
			default: // it has died before
			}
		}
		run.gate.Leave()
	}()
	fn(run.ctx)
	err = nil
}

// Start opens the group.
func (g *Group) Start(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.run != nil && !g.run.gate.Closed() {
		return errors.New("lifecycle: group is already started")
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	g.run = &groupRun{ctx: ctx, cancel: cancel, gate: inflight.New(), died: make(chan error, 1)}
	return nil
}

// Drain refuses new goroutines and waits for those that run, until ctx ends: Stop cancels the rest.
func (g *Group) Drain(ctx context.Context) error {
	run := g.closed()
	if run == nil {
		return nil
	}
	select {
	case <-run.gate.Empty():
	case <-ctx.Done(): // no error yet: they are not lost before Stop has said so
	}
	return nil
}

// Stop cancels the goroutines that run and waits for them. Its error wraps ErrStopTimeout if some
// still run when ctx ends.
func (g *Group) Stop(ctx context.Context) error {
	run := g.closed()
	if run == nil {
		return nil
	}
	run.cancel()
	select {
	case <-run.gate.Empty():
		return nil
	default:
	}
	select {
	case <-run.gate.Empty():
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: goroutines still running after they were cancelled: %d: %w",
			ErrStopTimeout, run.gate.InFlight(), context.Cause(ctx))
	}
}

// closed refuses new goroutines and returns the run, nil if there is none.
func (g *Group) closed() *groupRun {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.run != nil {
		g.run.gate.Close()
	}
	return g.run
}

// Done gets the panic of a goroutine.
func (g *Group) Done() <-chan error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.run == nil {
		return nil
	}
	return g.run.died
}

// Restartable is true.
func (g *Group) Restartable() bool { return true }

func (g *Group) inert() {}

// String returns how many goroutines run.
func (g *Group) String() string {
	g.mu.Lock()
	run := g.run
	g.mu.Unlock()
	if run == nil {
		return "lifecycle.Group{not started}"
	}
	return fmt.Sprintf("lifecycle.Group{goroutines: %d}", run.gate.InFlight())
}

// Format prints what String returns, for every verb.
func (g *Group) Format(f fmt.State, _ rune) { printing.Format(f, g) }

// LogValue returns what String returns.
func (g *Group) LogValue() slog.Value { return printing.LogValue(g) }
