package sqlpool_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/sqlpool"
)

func TestFailFastFailsAtTheFirstAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer()
		attempts := 0
		s.dial.set(func(context.Context) error { attempts++; return errFake })
		p, err := sqlpool.NewDB(s, sqlpool.DBConfig{Name: "orders", MinIdle: 3})
		if err != nil {
			t.Fatal(err)
		}
		err = p.Start(t.Context())
		if !errors.Is(err, errFake) || !strings.Contains(err.Error(), `start "orders"`) {
			t.Errorf("Start: %v", err)
		}
		advance(time.Hour)
		if attempts != 1 {
			t.Errorf("%d attempts, want 1: a failed Start leaves nothing running (INV-13)", attempts)
		}
		s.dial.set(nil)
		if err := p.Start(t.Context()); err != nil {
			t.Errorf("a second Start with the server there: %v", err)
		}
		if err := p.Start(t.Context()); err == nil {
			t.Error("starting a started pool succeeds")
		}
		stop(t, p)
	})
}

func TestWaitForServerBacksOffUntilItIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer()
		begun := time.Now()
		var at []time.Duration
		s.dial.set(func(context.Context) error {
			at = append(at, time.Since(begun))
			if time.Since(begun) < 2*time.Minute {
				return errFake
			}
			return nil
		})
		p, err := sqlpool.NewDB(s, sqlpool.DBConfig{Start: poolkeeper.StartWaitForServer, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		defer stop(t, p)
		want := time.Second
		for i := 1; i < len(at); i++ {
			if d := at[i] - at[i-1]; d > want || d < want*3/4 {
				t.Errorf("attempt %d came after %v, want %v with up to a quarter less", i+1, d, want)
			}
			want = min(2*want, 30*time.Second)
		}
		if len(at) < 8 {
			t.Errorf("only %d attempts in 2 minutes", len(at))
		}
	})
}

func TestWaitForServerEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer()
		s.dial.set(func(context.Context) error { return errFake })
		p, err := sqlpool.NewDB(s, sqlpool.DBConfig{Start: poolkeeper.StartWaitForServer, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		defer stop(t, p)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err = p.Start(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, errFake) || !strings.Contains(err.Error(), "attempts") {
			t.Errorf("Start: %v; want the deadline, the last error and the number of attempts", err)
		}
	})
}

func TestStartDegradedStartsAndCheckTellsTheTruth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer()
		s.dial.set(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }) // a server that does not answer
		p, err := sqlpool.NewDB(s, sqlpool.DBConfig{Start: poolkeeper.StartDegraded, DialTimeout: 2 * time.Second, Logger: slog.New(slog.DiscardHandler), MinIdle: 2})
		if err != nil {
			t.Fatal(err)
		}
		defer stop(t, p)
		begun := time.Now()
		if err := p.Start(t.Context()); err != nil || time.Since(begun) > 3*time.Second {
			t.Errorf("Start: %v after %v", err, time.Since(begun))
		}
		if err := p.Check(t.Context()); err == nil {
			t.Error("Check succeeds without a server")
		}
		s.dial.set(nil)
		if err := p.Check(t.Context()); err != nil {
			t.Errorf("Check with the server there: %v", err)
		}
		advance(2 * time.Minute)
		if got := p.Stats().Idle; got != 2 {
			t.Errorf("idle %d, want MinIdle, 2, once the server is there", got)
		}
	})
}

func TestHandleWorksBeforeStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, err := sqlpool.NewDB(newFakeServer(), sqlpool.DBConfig{})
		if err != nil {
			t.Fatal(err)
		}
		defer stop(t, p)
		if _, err := p.DB().ExecContext(t.Context(), "migrate"); err != nil {
			t.Error(err)
		}
	})
}

// A saturated pool is not a dead server: the check has a connection of its own.
func TestCheckWorksWhileCallersHoldEveryConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer()
		p := fakePool(t, s, sqlpool.DBConfig{MaxOpen: 1})
		c := hold(t, p)
		for range 10 {
			if err := p.Check(t.Context()); err != nil {
				t.Errorf("Check: %v", err)
			}
		}
		if got := s.Dialed(); got != 2 {
			t.Errorf("%d dials, want the caller's and one for all checks", got)
		}
		_ = c.Close()
		stop(t, p)
	})
}

// The server may close the check's connection between two checks; that is not news about the
// server.
func TestCheckDialsAnewBeforeItComplains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer()
		p := fakePool(t, s, sqlpool.DBConfig{Name: "orders"})
		s.breakAll()
		if err := p.Check(t.Context()); err != nil {
			t.Errorf("Check after its connection was closed: %v", err)
		}
		s.ping.set(func(context.Context) error { return errFake })
		if err := p.Check(t.Context()); !errors.Is(err, errFake) || !strings.Contains(err.Error(), `check "orders"`) {
			t.Errorf("Check of a server that answers with an error: %v", err)
		}
		if got := s.Open(); got != 0 {
			t.Errorf("%d connections are open after a failed check", got)
		}
		s.ping.set(nil)
		stop(t, p)
	})
}

func TestCheckIsBoundedByItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer()
		p := fakePool(t, s, sqlpool.DBConfig{})
		s.ping.set(func(ctx context.Context) error { return sleepFor(ctx, "1h") })
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		var wg sync.WaitGroup
		for range 3 { // the second and third wait for the first
			wg.Go(func() {
				if err := p.Check(ctx); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Check: %v", err)
				}
			})
		}
		begun := time.Now()
		wg.Wait()
		if got := time.Since(begun); got > 3*time.Second {
			t.Errorf("checks took %v", got)
		}
		s.ping.set(nil)
		stop(t, p)
	})
}

func TestCheckQueryIsRunByWhateverMeansTheDriverHas(t *testing.T) {
	for name, f := range map[string]feature{
		"ExecerContext": allFeatures, "statement": allFeatures &^ featExecer, "old statement": 0, "old Execer": featOldExecer,
	} {
		for _, query := range []string{"healthy?", "old healthy?", "skip healthy?"} {
			t.Run(name+" "+query, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := newFakeServer()
					s.features = f
					p := fakePool(t, s, sqlpool.DBConfig{CheckQuery: query})
					defer stop(t, p)
					if calls := strings.Join(s.takeTrace(), ", "); !strings.Contains(calls, query) {
						t.Errorf("calls of the driver: %s", calls)
					}
				})
			})
		}
		t.Run(name+" fails", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFakeServer()
				s.features = f
				p, err := sqlpool.NewDB(s, sqlpool.DBConfig{CheckQuery: "fail"})
				if err != nil {
					t.Fatal(err)
				}
				defer stop(t, p)
				if err := p.Start(t.Context()); !errors.Is(err, errFake) {
					t.Errorf("Start: %v", err)
				}
			})
		})
	}
}

// A check whose driver is deaf to its context comes back after Stop has given up on it.
func TestCheckThatOutlivesStopKeepsNoConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer()
		p := fakePool(t, s, sqlpool.DBConfig{DialTimeout: time.Minute})
		s.breakAll()
		s.dial.set(func(context.Context) error { time.Sleep(10 * time.Second); return nil })
		checked := make(chan error, 1)
		go func() { checked <- p.Check(context.WithoutCancel(t.Context())) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := p.Stop(ctx); err == nil {
			t.Error("Stop has not waited for a check under way")
		}
		if err := <-checked; err != nil {
			t.Errorf("Check: %v", err)
		}
		advance(time.Second)
		if n := s.Open(); n != 0 {
			t.Errorf("%d connections are open", n)
		}
	})
}
