package lifecycletest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/lifecycle/event"
	"github.com/poolkeeper/poolkeeper/lifecycle/lifecycletest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeTB is a test that only takes notes, so that what has to fail can be seen failing.
type fakeTB struct {
	testing.TB

	mu       sync.Mutex
	failures []string
	cleanups []func()
}

var errFatal = errors.New("fatal")

func (f *fakeTB) Helper() {}

func (f *fakeTB) Output() io.Writer { return io.Discard }

func (f *fakeTB) Cleanup(fn func()) { f.cleanups = append(f.cleanups, fn) }

func (f *fakeTB) Errorf(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failures = append(f.failures, fmt.Sprintf(format, args...))
}

func (f *fakeTB) Fatalf(format string, args ...any) {
	f.Errorf(format, args...)
	panic(errFatal)
}

// judge runs a test function as the testing package would, and returns what it failed with.
func judge(test func(testing.TB)) string {
	f := &fakeTB{}
	func() {
		defer func() {
			if v := recover(); v != nil && v != any(errFatal) {
				panic(v)
			}
		}()
		test(f)
	}()
	for _, fn := range slices.Backward(f.cleanups) {
		fn()
	}
	return strings.Join(f.failures, "\n")
}

func TestACleanServicePassesAndIsStoppedAtTheEnd(t *testing.T) {
	var j lifecycletest.Journal
	failures := judge(func(tb testing.TB) {
		tb.Helper()
		reg := lifecycletest.New(tb, lifecycle.Config{})
		reg.Add("api", (&lifecycletest.Fake{Journal: &j}).As(lifecycletest.Drains), lifecycle.WithDependencies("db"))
		reg.Add("db", &lifecycletest.Fake{Journal: &j})
		lifecycletest.Start(tb, reg)
		lifecycletest.Order(tb, reg, "db", "api")
	})
	if failures != "" {
		t.Errorf("a clean service failed: %s", failures)
	}
	want := []string{
		"db: start", "db: start done", "api: start", "api: start done",
		"api: drain", "api: drain done", "api: stop", "api: stop done", "db: stop", "db: stop done",
	}
	if !slices.Equal(j.Lines(), want) {
		t.Errorf("journal %q, want %q", j.Lines(), want)
	}
}

func TestWhatGoesWrongFailsTheTest(t *testing.T) {
	for name, c := range map[string]struct {
		test func(testing.TB)
		want []string
	}{
		"failed start": {func(tb testing.TB) {
			tb.Helper()
			reg := lifecycletest.New(tb, lifecycle.Config{})
			reg.Add("db", &lifecycletest.Fake{OnStart: lifecycletest.Script{Fail: 1}})
			lifecycletest.Start(tb, reg)
		}, []string{`start of "db" failed`, lifecycletest.ErrFake.Error()}},
		"failed stop": {func(tb testing.TB) {
			tb.Helper()
			reg := lifecycletest.New(tb, lifecycle.Config{})
			reg.Add("db", &lifecycletest.Fake{OnStop: lifecycletest.Script{Panic: "ouch"}})
			lifecycletest.Start(tb, reg)
		}, []string{`stop of "db" failed`, "panic: ouch", "fake.go"}},
		"abandoned component": {func(tb testing.TB) {
			tb.Helper()
			f := &lifecycletest.Fake{OnStop: lifecycletest.Script{Hang: true, Stubborn: true}}
			tb.Cleanup(f.Release)
			reg := lifecycletest.New(tb, lifecycle.Config{ShutdownTimeout: time.Second})
			reg.Add("db", f)
			lifecycletest.Start(tb, reg)
		}, []string{`"db" was abandoned`, "goroutines left behind", "(*Fake).wait"}},
		"wrong order": {func(tb testing.TB) {
			tb.Helper()
			reg := lifecycletest.New(tb, lifecycle.Config{})
			reg.Add("api", &lifecycletest.Fake{})
			reg.Add("db", &lifecycletest.Fake{})
			reg.Add("probes", &lifecycletest.Fake{}, lifecycle.WithOps())
			lifecycletest.Order(tb, reg, "probes", "db", "api")
			lifecycletest.Order(tb, reg, "db", "nobody")
		}, []string{`"api" does not depend on "db"`, `no component "nobody"`}},
		"never started, not stopped": {func(tb testing.TB) {
			tb.Helper()
			reg := lifecycletest.New(tb, lifecycle.Config{})
			reg.Add("db", &lifecycletest.Fake{OnStop: lifecycletest.Script{Fail: 1}})
		}, []string{`stop of "db" failed`}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				failures := judge(c.test)
				for _, want := range c.want {
					if !strings.Contains(failures, want) {
						t.Errorf("want a failure with %q, got: %s", want, failures)
					}
				}
			})
		})
	}
}

func TestLeakedGoroutinesFailTheTestWhereverTheyCameFrom(t *testing.T) {
	t.Parallel()
	for name, leak := range map[string]func(reg *lifecycle.Registry, hang func()){
		"constructor": func(_ *lifecycle.Registry, hang func()) { go hang() },
		"component": func(reg *lifecycle.Registry, hang func()) {
			reg.Add("leaky", lifecycle.Hooks{OnStart: func(context.Context) error {
				go hang()
				return nil
			}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // the other's goroutine is not ours
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				failures := judge(func(tb testing.TB) {
					tb.Helper()
					reg := lifecycletest.New(tb, lifecycle.Config{})
					leak(reg, func() { <-release })
					lifecycletest.Start(tb, reg)
				})
				close(release)
				if strings.Count(failures, "1 × ") != 1 || !strings.Contains(failures, "lifecycletest_test.go") {
					t.Errorf("want one leaked goroutine with its place, got: %s", failures)
				}
			})
		})
	}
}

func TestATestThatShutsDownItselfHasSeenTheError(t *testing.T) {
	failures := judge(func(tb testing.TB) {
		tb.Helper()
		reg := lifecycletest.New(tb, lifecycle.Config{})
		reg.Add("db", &lifecycletest.Fake{OnStop: lifecycletest.Script{Fail: lifecycletest.Forever}})
		lifecycletest.Start(tb, reg)
		if err := reg.Shutdown(t.Context()); !errors.Is(err, lifecycletest.ErrFake) {
			tb.Errorf("Shutdown = %v, want ErrFake", err)
		}
	})
	if failures != "" {
		t.Errorf("failures: %s", failures)
	}
}

func TestFakeFailsAsOftenAsTold(t *testing.T) {
	f := &lifecycletest.Fake{OnStart: lifecycletest.Script{Fail: 2, Err: io.ErrUnexpectedEOF}}
	for i := range 3 {
		err := f.Start(t.Context())
		if want := i < 2; errors.Is(err, io.ErrUnexpectedEOF) != want {
			t.Errorf("start %d: %v, want failure %v", i+1, err, want)
		}
	}
	if n := f.Calls(event.PhaseStart); n != 3 {
		t.Errorf("Calls = %d, want 3", n)
	}
}
