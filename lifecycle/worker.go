package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/goroutines"
	"github.com/poolkeeper/poolkeeper/internal/printing"
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
			err = &PanicError{Value: v, Stack: goroutines.Print(goroutines.Callers(1))}
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
