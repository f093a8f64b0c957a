package lifecycle_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/lifecycle/event"
)

func TestACauseForHasteThatComesBeforeTheShutdownIsRemembered(t *testing.T) {
	reg := lifecycle.New(quiet())
	f := &fake{}
	reg.Add("pool", f.As(aborts|drains))
	mustStart(t, reg)
	reg.CutShort(errDied)
	reg.CutShort(errors.New("too late to matter"))
	wantErr(t, reg.Shutdown(t.Context()), lifecycle.ErrAborted, errDied)
	if f.Calls(event.PhaseAbort) != 1 || f.Calls(event.PhaseDrain) != 0 {
		t.Error("want Abort alone")
	}
}

func TestADependentWhoseChannelOutlivesARestartStillDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := lifecycle.New(quiet())
		root, top := &fake{}, newMortal()
		reg.Add("root", root, lifecycle.WithDeathPolicy(lifecycle.DeathPolicyRestart))
		reg.Add("top", top, lifecycle.WithDeathPolicy(lifecycle.DeathPolicyIgnore), lifecycle.WithDependencies("root"))
		mustStart(t, reg)
		for range 3 {
			root.Die(errDied)
			time.Sleep(time.Minute)
		}
		top.died <- errDied
		synctest.Wait()
		if got := stateOf(t, reg, "top"); got != lifecycle.StateDead {
			t.Errorf("top is %s, want dead", got)
		}
		if err := reg.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestANewsFromALifeBeforeIsNoNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := lifecycle.New(quiet())
		root := &fake{}
		var lives []chan error
		top := &reborn{channel: func() <-chan error {
			lives = append(lives, make(chan error, 1))
			return lives[len(lives)-1]
		}}
		reg.Add("root", root, lifecycle.WithDeathPolicy(lifecycle.DeathPolicyRestart))
		reg.Add("top", top, lifecycle.WithDependencies("root"))
		mustStart(t, reg)
		root.Die(errDied)
		advance(time.Minute)
		lives[0] <- errDied
		synctest.Wait()
		if got := stateOf(t, reg, "top"); got != lifecycle.StateUp || len(lives) != 2 {
			t.Errorf("top is %s in life %d, want up in its second", got, len(lives))
		}
		if err := reg.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// reborn has a channel for each of its lives.
type reborn struct {
	noop

	channel func() <-chan error
}

func (r *reborn) Done() <-chan error { return r.channel() }
func (r *reborn) Restartable() bool  { return true }

func TestShutdownThatComesFirstLeavesStartNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := lifecycle.New(quiet())
		reg.Add("slow", &fake{OnStop: script{Delay: time.Second}})
		wait := after(0, func() {
			if err := reg.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		if err := reg.Start(t.Context()); !errors.Is(err, lifecycle.ErrShutdown) {
			t.Errorf("Start during a shutdown = %v, want ErrShutdown", err)
		}
		wait()
	})
}

func TestWhatOnlyObeyedIsNoErrorInTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var buf bytes.Buffer
		reg := lifecycle.New(lifecycle.Config{Logger: slog.New(slog.NewTextHandler(&buf, nil))})
		reg.Add("bad", &fake{OnStart: script{Delay: time.Second, Fail: 1}})
		reg.Add("obedient", &fake{OnStart: script{Delay: time.Hour}})
		wantErr(t, reg.Start(t.Context()), errFake)
		if log := buf.String(); strings.Contains(log, "component=obedient phase=start") || !strings.Contains(log, `msg="component did not come up" component=bad`) {
			t.Errorf("log:\n%s", log)
		}
	})
}

func TestEveryEventCanBeLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var buf bytes.Buffer
		cfg := lifecycle.Config{Logger: slog.New(slog.NewTextHandler(&buf, nil)), OnHang: lifecycle.HangPolicyHold}
		reg := lifecycle.New(cfg)
		hung, mortal := &fake{OnStop: hangs()}, &fake{}
		reg.Add("db", &fake{})
		reg.Add("writer", hung, lifecycle.WithDependencies("db"))
		reg.Add("aborted", (&fake{OnStop: hangs()}).As(aborts))
		reg.Add("mortal", mortal, lifecycle.WithDeathPolicy(lifecycle.DeathPolicyRestart))
		mustStart(t, reg)
		mortal.Die(errDied)
		advance(time.Minute)
		_ = reg.Shutdown(within(t, 10*time.Second))
		wantText(t, buf.String(), "policy=restart", "attempt=1 delay=", "stack=", `with=[]`,
			`msg="component is out of time and is aborted" component=aborted`, `outcome=aborted`,
			`msg="component hangs, what it depends on is held open" component=writer`,
			`msg="component was not stopped" component=db`)
		hung.Release()
	})
}

func TestTheSiteOfAStackIsTheFirstFrameThatIsNotWaiting(t *testing.T) {
	for stack, want := range map[string]string{
		"": "unknown",
		"sync.(*WaitGroup).Wait (/go/src/sync/waitgroup.go:118)": "sync.(*WaitGroup).Wait (waitgroup.go:118)",
		"time.Sleep (/go/src/runtime/time.go:1)\nnet/http.(*Server).Shutdown (/go/src/net/http/server.go:2)\n" +
			"example.com/shop.(*Desk).Close (/src/shop/desk.go:88)\nmain.main (/src/main.go:3)": "shop.(*Desk).Close (desk.go:88)",
		"io.Copy (/go/src/io/io.go:1)\n\nmain.other (/src/main.go:4)": "io.Copy (io.go:1)", // another goroutine
	} {
		if got := lifecycle.Site(stack); got != want {
			t.Errorf("Site(%q) = %q, want %q", stack, got, want)
		}
	}
}

func TestServerWithoutHandlerServesTheDefaultMux(t *testing.T) {
	_, s := serve(t, &http.Server{})
	if code, _, err := get(t.Context(), client(t), "http://"+s.Addr().String()+"/nothing-here"); code != http.StatusNotFound {
		t.Errorf("%d %v, want 404", code, err)
	}
}

// pipeListener hands out one end of a pipe: a connection that is neither TCP nor Unix.
type pipeListener struct {
	once  sync.Once
	conns chan net.Conn
	gone  chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.gone:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.gone) }); return nil }
func (l *pipeListener) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }

func TestServerTracksConnectionsOfAnyKind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &pipeListener{conns: make(chan net.Conn, 1), gone: make(chan struct{})}
		s := lifecycle.HTTPServer(&http.Server{Handler: http.HandlerFunc(hello)}, lifecycle.WithListen(
			func(context.Context) (net.Listener, error) { return l, nil },
		))
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		ours, theirs := net.Pipe()
		l.conns <- theirs
		if _, err := io.WriteString(ours, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 512)
		if n, err := ours.Read(buf); err != nil || !strings.Contains(string(buf[:n]), "200 OK") {
			t.Fatalf("%q %v", buf[:n], err)
		}
		if err := s.Stop(t.Context()); err != nil { // waits until the connection, idle now, is closed
			t.Error(err)
		}
		if _, err := ours.Read(buf); err == nil {
			t.Error("the connection is open")
		}
	})
}

func TestAbortWhileAServerBeginsToListenWins(t *testing.T) {
	var s *lifecycle.Server
	s = lifecycle.HTTPServer(&http.Server{}, lifecycle.WithListen(func(ctx context.Context) (net.Listener, error) {
		if err := s.Abort(); err != nil {
			return nil, err
		}
		var lc net.ListenConfig
		return lc.Listen(ctx, "tcp", "127.0.0.1:0")
	}))
	if err := s.Start(t.Context()); !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("Start = %v, want ErrServerClosed", err)
	}
}

func TestReportIsAPageForAPerson(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := quiet()
		cfg.DrainDelay = time.Second
		reg := lifecycle.New(cfg)
		hung := &fake{OnStop: hangs()}
		reg.Add("db", &fake{})
		reg.Add("api", (&fake{OnDrain: script{Delay: 1500 * time.Millisecond}}).As(drains), lifecycle.WithDependencies("db"))
		reg.Add("tarpit", hung, lifecycle.WithDependencies("db"))
		mustStart(t, reg)
		_ = reg.Shutdown(within(t, 11*time.Second))
		want := `2 of 3 components ok, in 6s (1s of it still serving)

  api      ok          at +1s   for 1.5s, draining for 1.5s
  tarpit   ABANDONED   at +1s   for 5s
  db       ok          at +6s   for 0s

tarpit: stop, after 5s: lifecycle: did not stop in time
    github.com/poolkeeper/poolkeeper/lifecycle/lifecycletest.(*Fake).wait (`
		if got := reg.Status().Shutdown.String(); !strings.HasPrefix(got, want) {
			t.Errorf("report:\n%s\nwant:\n%s", got, want)
		} else if !strings.HasSuffix(got, "\nThe time went into: tarpit → db\n") {
			t.Errorf("report:\n%s", got)
		}
		hung.Release()
	})
}
