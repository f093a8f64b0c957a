package sqlpool_test

import (
	"bytes"
	"context"
	"database/sql/driver"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/sqlpool"
)

// lines collects log lines.
type lines struct {
	mu sync.Mutex // guards the following
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// The process lives, no place is lost, Stop ends, and the event has the stack.
func TestADriverThatPanicsCostsAConnectionAndNoMore(t *testing.T) {
	for name, c := range map[string]struct {
		set  func(s *fakeServer, f func())
		exit bool // Goexit is tried too: it is no caller's goroutine
		fail bool // an operation of the caller's may fail
	}{
		"Close": {func(s *fakeServer, f func()) { s.closing.set(f) }, true, false},
		"Ping":  {func(s *fakeServer, f func()) { s.ping.set(func(context.Context) error { f(); return nil }) }, false, false},
		"Connect": {func(s *fakeServer, f func()) {
			s.dial.set(func(context.Context) error { f(); return nil })
		}, true, true},
	} {
		for how, f := range map[string]func(){"panic": func() { panic("driver") }, "goexit": runtime.Goexit} {
			if how == "goexit" && !c.exit {
				continue
			}
			t.Run(name+" "+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var log lines
					s := newFakeServer()
					p := fakePool(t, s, sqlpool.DBConfig{
						MaxOpen: 2, MinIdle: 2, KeepAlive: time.Second, MaxLifetime: time.Minute, AcquireTimeout: 5 * time.Second, FailFastAfter: poolkeeper.Off,
						Logger: slog.New(slog.NewTextHandler(&log, nil)),
					})
					c.set(s, f)
					for range 20 {
						conn, err := p.DB().Conn(t.Context())
						if err == nil {
							_ = conn.Raw(func(any) error { return driver.ErrBadConn })
							_ = conn.Close()
						} else if !c.fail {
							t.Error(err)
						}
						_ = p.Check(t.Context())
						advance(10 * time.Second)
					}
					c.set(s, func() {})
					advance(time.Minute)
					var held []func() error
					for range 2 {
						conn, err := p.DB().Conn(t.Context())
						if err != nil {
							t.Fatalf("a place is lost: %v", err)
						}
						held = append(held, conn.Close)
					}
					for _, release := range held {
						_ = release()
					}
					stop(t, p)
					if how == "panic" && (!strings.Contains(log.String(), "kind=panic") || !strings.Contains(log.String(), "guarded_test.go")) {
						t.Errorf("no event with the stack in\n%.2000s", log.String())
					}
				})
			})
		}
	}
}

// 500 callers that give up while 200 connections are held cost no rendering of stacks.
func TestFailedAcquisitionsRenderAStackOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := fakePool(t, newFakeServer(), sqlpool.DBConfig{MaxOpen: 200, MaxDials: 200})
		var held []func() error
		for range 200 {
			c, err := p.DB().Conn(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, c.Close)
		}
		errs := make([]error, 500)
		var all sync.WaitGroup
		for i := range errs {
			all.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
				defer cancel()
				_, errs[i] = p.DB().Conn(ctx)
			})
		}
		all.Wait()
		for _, err := range errs {
			if !errors.Is(err, poolkeeper.ErrAcquireTimeout) {
				t.Fatal(err)
			}
		}
		if text := errs[0].Error(); strings.Count(text, "conn for ") != 3 || !strings.Contains(text, "guarded_test.go") {
			t.Errorf("the error is %s", text)
		}
		if n := sqlpool.StacksRendered(p); n != 3 {
			t.Errorf("%d stacks were rendered for 500 callers, want 3", n)
		}
		for _, release := range held {
			_ = release()
		}
		stop(t, p)
	})
}
