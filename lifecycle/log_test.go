package lifecycle_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/lifecycle/event"
)

// logged returns a configuration and what it logs, without times.
func logged() (lifecycle.Config, *bytes.Buffer) {
	var buf bytes.Buffer
	h := slog.NewTextHandler(&buf, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
	return lifecycle.Config{Logger: slog.New(h), Signals: []os.Signal{}}, &buf
}

func TestAFailedStartIsLoggedOnceWithAddressCauseAndAdvice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, log := logged()
		reg := lifecycle.New(cfg)
		refused := fmt.Errorf("cache: %w", &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 7), Port: 6379}, Err: syscall.ECONNREFUSED})
		reg.Add("cache", (&fake{OnStart: script{Fail: 1, Err: refused}}).As(aborts))
		reg.Add("api", (&fake{}).As(aborts), lifecycle.WithDependencies("cache"))
		err := reg.Run(t.Context())
		if !errors.Is(err, refused) {
			t.Errorf("Run = %v", err)
		}
		want := `level=ERROR msg="component did not come up" component=cache phase=start cause=refused advice="` +
			health.FaultOf(health.KindRefused).Advice + `" error="lifecycle: start of \"cache\" failed: cache: dial tcp 10.0.0.7:6379: connection refused"
level=INFO msg="shutting down" reason="start of \"cache\" failed" budget=25s drain_delay=0s
level=INFO msg="all components are down" critical_path="[api cache]"
`
		if log.String() != want {
			t.Errorf("log:\n%swant:\n%s", log, want)
		}
	})
}

// leakyPool is a component that drains and stops as the pools do.
type leakyPool struct {
	fake

	drained, stopped func(ctx context.Context) error
}

func (p *leakyPool) Drain(ctx context.Context) error { return p.drained(ctx) }
func (p *leakyPool) Stop(ctx context.Context) error  { return p.stopped(ctx) }
func (p *leakyPool) Abort() error                    { return nil }
func (p *leakyPool) Holders() []poolkeeper.Holder    { return nil }

var errHeld = errors.New("cut off 1 connection held by tx for 41s by api.(*Handler).List (list.go:88)")

// A leaked connection keeps Drain to its end and Stop as well; only then is it cut off.
func TestWhatAPoolCutOffIsReportedOnceAndIsNoHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, log := logged()
		reg := lifecycle.New(cfg)
		var drained, left time.Duration
		began := time.Now()
		reg.Add("orders", &leakyPool{drained: func(ctx context.Context) error {
			<-ctx.Done()
			drained = time.Since(began)
			return fmt.Errorf("1 held, by tx at list.go:88: %w", context.Cause(ctx))
		}, stopped: func(ctx context.Context) error {
			d, _ := ctx.Deadline()
			left = time.Until(d)
			<-ctx.Done()
			time.Sleep(100 * time.Millisecond) // closes what it has cut off
			return errHeld
		}})
		mustStart(t, reg)
		err := reg.Shutdown(within(t, 20*time.Second))
		ce := componentError(t, err, "orders")
		if errors.Is(err, lifecycle.ErrStopTimeout) || ce.Stack != "" || strings.Count(err.Error(), "list.go:88") != 1 {
			t.Errorf("the error is %v", err)
		}
		if drained != 17750*time.Millisecond || left != 2*time.Second {
			t.Errorf("Drain had %v, and left %v to Stop", drained, left)
		}
		if s := log.String(); strings.Count(s, "list.go:88") != 1 || strings.Contains(s, "out of time") || strings.Contains(s, "hangs") {
			t.Errorf("log:\n%s", s)
		}
		wantText(t, log.String(), `report.components=1 report.ok=0 report.orders="failed after 19.9s, draining for 17.8s"`)
	})
}

func TestWorkThatEndsInTheTimeOfStopIsNotLost(t *testing.T) {
	for name, comp := range map[string]lifecycle.Component{
		"a pool": &leakyPool{drained: func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}, stopped: func(context.Context) error { return nil }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				reg := lifecycle.New(quiet())
				reg.Add("a", comp)
				mustStart(t, reg)
				if err := reg.Shutdown(within(t, 20*time.Second)); err != nil {
					t.Error(err)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) { // what its Stop does about the rest is unknown
		reg := lifecycle.New(quiet())
		reg.Add("a", (&fake{OnDrain: script{Hang: true}}).As(drains))
		mustStart(t, reg)
		wantErr(t, reg.Shutdown(within(t, 20*time.Second)), context.DeadlineExceeded)
	})
}

// A second signal leaves no time to hang in.
func TestAShutdownThatIsCutShortDiagnosesNoHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, log := logged()
		reg := lifecycle.New(cfg)
		reg.Add("a", (&fake{OnStop: hangs()}).As(aborts))
		mustStart(t, reg)
		defer after(0, func() {
			time.Sleep(time.Microsecond)
			reg.CutShort(&lifecycle.SignalError{Signal: os.Interrupt})
		})()
		ce := componentError(t, reg.Shutdown(within(t, 20*time.Second)), "a")
		wantErr(t, ce, lifecycle.ErrAborted)
		wantText(t, ce.Error(), "aborted, because the shutdown was cut short")
		if s := log.String() + ce.Error(); strings.Contains(s, "in time") || strings.Contains(s, "out of time") || ce.Stack != "" {
			t.Errorf("a hang of a microsecond:\n%s", s)
		}
	})
}

func TestOneMistakeIsOneFault(t *testing.T) {
	for name, add := range map[string]func(reg *lifecycle.Registry){
		"nil component": func(reg *lifecycle.Registry) {
			reg.Add("a", nil)
			reg.Add("b", &fake{}, lifecycle.WithDependencies("a"))
		},
		"bad name": func(reg *lifecycle.Registry) {
			reg.Add(" a", &fake{})
			reg.Add("b", &fake{}, lifecycle.WithDependencies(" a"))
		},
		"no DoneNotifier": func(reg *lifecycle.Registry) {
			reg.Add("a", lifecycle.Closer(nopCloser{}), lifecycle.WithDeathPolicy(lifecycle.DeathPolicyRestart))
		},
		"interval": func(reg *lifecycle.Registry) {
			reg.Add("a", &fake{}, lifecycle.WithHealthCheck(health.Check{Interval: -1, Probe: func(context.Context) error { return nil }}))
		},
	} {
		reg := lifecycle.New(quiet())
		add(reg)
		if err := reg.Validate(); err == nil || strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), ";") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAPortThatIsTakenIsSaidWithoutStutter(t *testing.T) {
	var lc net.ListenConfig
	taken, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	srv := lifecycle.HTTPServer(&http.Server{Addr: taken.Addr().String(), ReadHeaderTimeout: time.Second})
	if err := srv.Start(t.Context()); err == nil || strings.Count(err.Error(), "listen") != 1 || !strings.Contains(err.Error(), taken.Addr().String()) {
		t.Errorf("%v", err)
	}
}

func TestAnEventNamesItsComponent(t *testing.T) {
	for _, e := range []event.Event{
		&event.Started{Info: event.Info{Name: "orders"}}, &event.Abandoned{Info: event.Info{Name: "orders"}},
		&event.Late{Info: event.Info{Name: "orders"}}, &event.Stopped{Info: event.Info{Name: "orders"}, NeverUp: true},
	} {
		if s := e.String(); !strings.HasPrefix(s, `"orders" `) {
			t.Errorf("%T: %s", e, s)
		}
	}
}

func TestHealthOfAComponentIsLoggedByItsRegistry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, log := logged()
		reg := lifecycle.New(cfg)
		var down atomic.Bool
		down.Store(true)
		reg.Add("orders", &fake{}, lifecycle.WithHealthCheck(health.Check{Probe: func(context.Context) error {
			if down.Load() {
				return syscall.ECONNREFUSED
			}
			return nil
		}}))
		mustStart(t, reg)
		advance(time.Minute)
		down.Store(false)
		advance(time.Minute)
		if err := reg.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		wantText(t, log.String(), `level=WARN msg="health: a check fails" check=orders kind=down cause=refused advice=`,
			`level=INFO msg="health: a check passes again" check=orders kind=up down_for=`)
		if n := strings.Count(log.String(), "health: "); n != 2 {
			t.Errorf("%d lines:\n%s", n, log)
		}
	})
}
