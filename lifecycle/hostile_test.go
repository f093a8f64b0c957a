package lifecycle_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/lifecycle/event"
)

// hostileHandler is a slog handler that does something else than it should.
type hostileHandler struct{ enabled, handle func() }

func (h hostileHandler) Enabled(context.Context, slog.Level) bool {
	h.enabled()
	return true
}

func (h hostileHandler) Handle(context.Context, slog.Record) error {
	h.handle()
	return nil
}
func (h hostileHandler) WithAttrs([]slog.Attr) slog.Handler { return h }
func (h hostileHandler) WithGroup(string) slog.Handler      { return h }

// misdeeds are the ways in which user code ends otherwise than by returning.
func misdeeds() map[string]func() {
	return map[string]func(){"panics": func() { panic("ouch") }, "exits": runtime.Goexit}
}

func TestALoggerThatPanicsExitsOrHangsHarmsNobody(t *testing.T) {
	for name, misbehave := range misdeeds() {
		t.Run(name, func(t *testing.T) { tryLogger(t, misbehave, true) })
	}
	t.Run("hangs", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			release := make(chan struct{})
			tryLogger(t, func() { <-release }, false)
			close(release)
		})
	})
}

func tryLogger(t *testing.T, misbehave func(), goesOn bool) {
	t.Helper()
	for where, h := range map[string]hostileHandler{
		"Enabled": {misbehave, func() {}}, "Handle": {func() {}, misbehave},
	} {
		reg := lifecycle.New(lifecycle.Config{Logger: slog.New(h)})
		seen := record(reg)
		reg.Add("a", &fake{})
		mustStart(t, reg)
		if err := reg.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if goesOn && len(seen.all()) != 7 {
			t.Errorf("in %s: the subscriber was told %v", where, seen.all())
		}
	}
}

func TestSubscribersAfterOneThatMisbehavesAreToldEverything(t *testing.T) {
	for name, misbehave := range misdeeds() {
		t.Run(name, func(t *testing.T) {
			reg := lifecycle.New(quiet())
			before := record(reg)
			reg.Subscribe(func(event.Event) { misbehave() })
			behind := record(reg)
			reg.Add("a", &fake{})
			mustStart(t, reg)
			if err := reg.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
			if len(before.all()) == 0 || !slices.Equal(before.all(), behind.all()) {
				t.Errorf("told before it: %v, behind it: %v", before.all(), behind.all())
			}
		})
	}
}

// evilError panics in one of its methods, as a nil pointer in an error does.
type evilError struct{ in string }

func (e *evilError) Error() string { return e.misbehave("Error") }
func (e *evilError) Is(error) bool { return e.misbehave("Is") == "" }

func (e *evilError) misbehave(in string) string {
	if e.in == in {
		panic("ouch")
	}
	return "evil"
}

func TestAnErrorThatPanicsWhenLookedAtIsAPanicOfItsComponent(t *testing.T) {
	for _, in := range []string{"Error", "Is"} {
		t.Run(in, func(t *testing.T) {
			evil := &evilError{in}
			hooks := lifecycle.Hooks{OnStop: func(context.Context) error { return evil }}
			reg := lifecycle.New(quiet())
			reg.Add("a", hooks)
			mustStart(t, reg)
			ce := componentError(t, reg.Shutdown(t.Context()), "a")
			wantText(t, ce.Error(), "panic: ouch", "hostile_test.go")

			reg = lifecycle.New(quiet())
			reg.Add("a", lifecycle.Hooks{OnStart: hooks.OnStop})
			ce = componentError(t, reg.Start(t.Context()), "a")
			wantText(t, ce.Error(), "panic: ouch", "hostile_test.go")
		})
	}
}

type evilListener struct {
	net.Listener

	accept func()
}

func (l evilListener) Accept() (net.Conn, error) {
	l.accept()
	return l.Listener.Accept()
}

func TestUserCodeOnTheServersGoroutineIsTheDeathOfTheServer(t *testing.T) {
	for name, misbehave := range misdeeds() {
		t.Run(name, func(t *testing.T) {
			srv := lifecycle.HTTPServer(&http.Server{ReadHeaderTimeout: time.Second}, lifecycle.WithListen(
				func(ctx context.Context) (net.Listener, error) {
					var lc net.ListenConfig
					l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
					return evilListener{l, misbehave}, err
				},
			))
			reg := lifecycle.New(quiet())
			reg.Add("api", srv)
			err := reg.Start(t.Context())
			if err == nil { // else it died before Start returned
				<-reg.Done()
				err = reg.Shutdown(t.Context())
			}
			ce := componentError(t, err, "api")
			if p, ok := errors.AsType[*lifecycle.PanicError](ce); ok == (name == "exits") || (ok && !strings.Contains(p.Stack, "hostile_test.go")) {
				t.Errorf("died of %v", ce)
			}
			if name == "exits" {
				wantErr(t, ce, lifecycle.ErrGoexit)
			}
		})
	}
}

// diesWhen returns a worker that dies when asked to, and is then restarted after a while.
func diesWhen(die <-chan struct{}) func(context.Context) error {
	return func(ctx context.Context) error {
		select {
		case <-die:
			return errDied
		case <-ctx.Done():
			return nil
		}
	}
}

// A component is down and waits for its restart when a shutdown begins.
func TestAShutdownDuringARestartNeverSaysThatAllIsUp(t *testing.T) { // INV-3
	for how, shut := range map[string]func(reg *lifecycle.Registry, fatal chan struct{}){
		"Shutdown":               func(reg *lifecycle.Registry, _ chan struct{}) { _ = reg.Shutdown(context.Background()) },
		"another component dies": func(reg *lifecycle.Registry, fatal chan struct{}) { close(fatal); <-reg.Done() },
	} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := quiet()
				reg := lifecycle.New(cfg)
				die, fatal := make(chan struct{}), make(chan struct{})
				reg.Go("a", diesWhen(die), lifecycle.WithDeathPolicy(lifecycle.DeathPolicyRestart))
				reg.Go("b", diesWhen(fatal))
				mustStart(t, reg)
				seen := record(reg)
				became := reg.Health().Watch(t.Context())
				var ready sync.WaitGroup
				ready.Go(func() {
					for c := range became {
						if c.Group == "ready" && c.To.OK() {
							t.Error("readiness came back")
						}
					}
				})
				close(die)
				synctest.Wait()
				if reg.Health().Report().Ready() {
					t.Error("ready while a component is down")
				}
				shut(reg, fatal)
				ready.Wait()
				for _, e := range seen.all() {
					if _, up := e.(*event.AllUp); up {
						t.Errorf("told that %v", e)
					}
				}
			})
		})
	}
}

// Whatever is seen of phase and readiness, in this order, agrees: a registry that was seen closing
// is not ready.
func TestPhaseAndReadinessAreOneTruth(t *testing.T) { // INV-3
	for range 50 {
		reg := lifecycle.New(quiet())
		reg.Add("a", &fake{})
		var watch sync.WaitGroup
		over := make(chan struct{})
		watch.Go(func() {
			for {
				s := reg.Status()
				if ready := reg.Health().Report().Ready(); ready && (s.Phase == "closing" || s.Phase == "closed") {
					t.Errorf("ready after the phase was %s", s.Phase)
				}
				select {
				case <-over:
					return
				default:
				}
			}
		})
		mustStart(t, reg)
		_ = reg.Shutdown(t.Context())
		close(over)
		watch.Wait()
	}
}

func TestAComponentThatWaitsForItsOwnShutdownIsToldSo(t *testing.T) {
	for name, add := range map[string]func(reg *lifecycle.Registry){
		"a worker": func(reg *lifecycle.Registry) {
			reg.Go("a", func(context.Context) error { return reg.Shutdown(context.Background()) })
		},
		"Start": func(reg *lifecycle.Registry) {
			reg.Add("a", lifecycle.Hooks{OnStart: func(ctx context.Context) error { return reg.Shutdown(ctx) }})
		},
		"Stop": func(reg *lifecycle.Registry) {
			reg.Add("a", lifecycle.Hooks{OnStop: func(context.Context) error { return reg.Shutdown(context.Background()) }})
			reg.Go("end", func(context.Context) error { return errDied }, lifecycle.WithDependencies("a")) // a is up by then
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := quiet()
				cfg.ShutdownTimeout, cfg.Signals = time.Second, []os.Signal{}
				reg := lifecycle.New(cfg)
				add(reg)
				err := reg.Run(t.Context())
				text := componentError(t, err, "a").Error()
				wantText(t, text, "it waits for Shutdown, which waits for it", "(hostile_test.go:")
			})
		})
	}
}
