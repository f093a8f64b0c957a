package lifecycletest

import (
	"context"
	"io"
	"log/slog"
	"runtime/pprof"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/poolkeeper/poolkeeper/lifecycle"
)

// labelTest is the pprof label by which the goroutines of a test are known.
const labelTest = "lifecycletest.test"

// tests counts the tests, to tell their goroutines apart.
//
//nolint:gochecknoglobals // test names are not unique: -count runs them again
var tests atomic.Int64

// New is lifecycle.New for a test: it logs to the test unless cfg has a Logger, takes no signals
// unless cfg names some, and at the end of the test the registry is shut down, whether or not it
// was started. It marks the calling goroutine, which must be the test's, so that goroutines of
// constructors called after it are found if they leak.
func New(tb testing.TB, cfg lifecycle.Config) *lifecycle.Registry {
	tb.Helper()
	ctx := mark(tb)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(output(tb), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	reg := lifecycle.New(cfg)
	watch(ctx, tb, reg)
	return reg
}

// Start starts reg, made by New or otherwise, and fails the test at once if that fails. At the end
// of the test reg is shut down within its ShutdownTimeout, unless the test has done so.
func Start(tb testing.TB, reg *lifecycle.Registry) {
	tb.Helper()
	ctx := watch(mark(tb), tb, reg)
	if err := reg.Start(ctx); err != nil {
		tb.Fatalf("lifecycletest: %v", err)
	}
}

// mark labels the calling goroutine, once per test, and returns the test's context with the label.
func mark(tb testing.TB) context.Context {
	tb.Helper()
	//nolint:forbidigo // t.Context ends before Cleanup does, and the labels of a goroutine are not in it
	ctx := context.Background()
	if id, ok := marked.Load(tb); ok {
		return pprof.WithLabels(ctx, pprof.Labels(labelTest, id.(string))) //nolint:forcetypeassert,errcheck // only mark stores
	}
	id := strconv.FormatInt(tests.Add(1), 10)
	marked.Store(tb, id)
	ctx = pprof.WithLabels(ctx, pprof.Labels(labelTest, id))
	pprof.SetGoroutineLabels(ctx)
	tb.Cleanup(func() { // runs last, after those of watch
		//nolint:forbidigo // no labels
		pprof.SetGoroutineLabels(context.Background())
		marked.Delete(tb)
	})
	return ctx
}

// marked and watched hold what is known of the tests and registries of now: they are empty between
// tests.
//
//nolint:gochecknoglobals // keyed by test and by registry
var marked, watched sync.Map

// watch arranges the end of the test, once per registry.
func watch(ctx context.Context, tb testing.TB, reg *lifecycle.Registry) context.Context {
	tb.Helper()
	if _, twice := watched.LoadOrStore(reg, true); twice {
		return ctx
	}
	unsubscribe := reg.Subscribe(newInspector(tb, reg).see)
	tb.Cleanup(func() {
		tb.Helper()
		stop(ctx, tb, reg)
		unsubscribe()
		watched.Delete(reg)
		checkLeaks(ctx, tb)
	})
	return ctx
}

// stop shuts down what the test has not.
func stop(ctx context.Context, tb testing.TB, reg *lifecycle.Registry) {
	tb.Helper()
	select {
	case <-reg.Done():
		return // the test has seen the error
	default:
	}
	if err := reg.Shutdown(ctx); err != nil {
		tb.Errorf("lifecycletest: shutdown: %v", err)
	}
	for _, c := range reg.Status().Components {
		if c.State == lifecycle.StateAbandoned {
			tb.Errorf("lifecycletest: %q was abandoned: something of it may still run", c.Name)
		}
	}
}

// output returns a writer to the log of a test, which takes nothing any more when the test is over:
// a component that was given up may still want to say something then.
func output(tb testing.TB) io.Writer {
	tb.Helper()
	w := &testOutput{w: tb.Output()}
	tb.Cleanup(w.close)
	return w
}

type testOutput struct {
	mu sync.Mutex // guards the following, and is held while writing: the test must not end in between
	w  io.Writer
}

func (o *testOutput) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.w == nil {
		return len(p), nil
	}
	return o.w.Write(p)
}

func (o *testOutput) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.w = nil
}
