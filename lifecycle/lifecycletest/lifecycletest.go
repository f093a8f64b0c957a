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

// New is lifecycle.New for a test: it logs to the test unless cfg has a Logger, takes no signals unless cfg names some,
// and at the end of the test the registry is shut down, whether or not it was started. It marks the calling goroutine,
// which must be the test's, so that goroutines of constructors called after it are found if they leak.
func New(t testing.TB, cfg lifecycle.Config) *lifecycle.Registry {
	t.Helper()
	ctx := mark(t)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(output(t), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	reg := lifecycle.New(cfg)
	watch(ctx, t, reg)
	return reg
}

// Start starts reg, made by New or otherwise, and fails the test at once if that fails. At the end of the test reg is
// shut down within its ShutdownTimeout, unless the test has done so.
func Start(t testing.TB, reg *lifecycle.Registry) {
	t.Helper()
	ctx := watch(mark(t), t, reg)
	if err := reg.Start(ctx); err != nil {
		t.Fatalf("lifecycletest: %v", err)
	}
}

// mark labels the calling goroutine, once per test, and returns the test's context with the label.
func mark(t testing.TB) context.Context {
	t.Helper()
	//nolint:forbidigo // t.Context ends before Cleanup does, and the labels of a goroutine are not in it
	ctx := context.Background()
	if id, ok := marked.Load(t); ok {
		return pprof.WithLabels(ctx, pprof.Labels(labelTest, id.(string))) //nolint:forcetypeassert // only mark stores
	}
	id := strconv.FormatInt(tests.Add(1), 10)
	marked.Store(t, id)
	ctx = pprof.WithLabels(ctx, pprof.Labels(labelTest, id))
	pprof.SetGoroutineLabels(ctx)
	t.Cleanup(func() { // runs last, after those of watch
		//nolint:forbidigo // no labels
		pprof.SetGoroutineLabels(context.Background())
		marked.Delete(t)
	})
	return ctx
}

// marked and watched hold what is known of the tests and registries of now: they are empty between tests.
//
//nolint:gochecknoglobals // keyed by test and by registry
var marked, watched sync.Map

// watch arranges the end of the test, once per registry.
func watch(ctx context.Context, t testing.TB, reg *lifecycle.Registry) context.Context {
	t.Helper()
	if _, twice := watched.LoadOrStore(reg, true); twice {
		return ctx
	}
	unsubscribe := reg.Subscribe(newInspector(t, reg).see)
	t.Cleanup(func() {
		t.Helper()
		stop(ctx, t, reg)
		unsubscribe()
		watched.Delete(reg)
		checkLeaks(ctx, t)
	})
	return ctx
}

// stop shuts down what the test has not.
func stop(ctx context.Context, t testing.TB, reg *lifecycle.Registry) {
	t.Helper()
	select {
	case <-reg.Done():
		return // the test has seen the error
	default:
	}
	if err := reg.Shutdown(ctx); err != nil {
		t.Errorf("lifecycletest: shutdown: %v", err)
	}
	for _, c := range reg.Status().Components {
		if c.State == lifecycle.StateAbandoned {
			t.Errorf("lifecycletest: %q was abandoned: something of it may still run", c.Name)
		}
	}
}

// output returns a writer to the log of a test, which takes nothing any more when the test is over: a component that
// was given up may still want to say something then.
func output(t testing.TB) io.Writer {
	w := &testOutput{w: t.Output()}
	t.Cleanup(w.close)
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
