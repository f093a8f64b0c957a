package sqlpool_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/sqlpool"
)

func TestPauseHoldsCallersUpAndResumeServesThemInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer()
		p := fakePool(t, s, sqlpool.DBConfig{MaxOpen: 3, MinIdle: 1, AcquireTimeout: time.Minute})
		idle(t, p, 3)
		c := hold(t, p)
		time.AfterFunc(2*time.Second, func() { _ = c.Close() })
		begun := time.Now()
		if err := p.Pause(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := time.Since(begun); got < 2*time.Second {
			t.Errorf("Pause returned after %v, while a connection was in use", got)
		}
		if st := p.Stats(); st.Open != 0 || s.Open() != 1 {
			t.Errorf("open %d, at the server %d; want only the check's", st.Open, s.Open())
		}
		if err := p.Check(t.Context()); err != nil {
			t.Errorf("Check while paused: %v", err)
		}
		if err := p.Pause(t.Context()); err != nil {
			t.Errorf("a second Pause: %v", err)
		}
		var order []int
		var mu sync.Mutex
		var wg sync.WaitGroup
		for i := range 6 {
			wg.Go(func() {
				if _, err := p.DB().ExecContext(t.Context(), "sleep 1s"); err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				order = append(order, i)
			})
			time.Sleep(time.Second)
		}
		advance(20 * time.Second) // sweeps and fills go by
		if len(order) != 0 || s.Open() != 1 {
			t.Errorf("%d were served, %d connections opened while paused", len(order), s.Open()-1)
		}
		p.Resume()
		p.Resume()
		wg.Wait()
		for i, n := range order {
			if i > 0 && n < order[i-1]-2 { // three at a time
				t.Errorf("served in the order %v", order)
			}
		}
		stop(t, p)
	})
}

func TestCallerWhoGivesUpWhilePausedIsToldSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := fakePool(t, newFakeServer(), sqlpool.DBConfig{AcquireTimeout: 3 * time.Second})
		if err := p.Pause(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, err := p.DB().ExecContext(t.Context(), "x")
		if !errors.Is(err, poolkeeper.ErrPaused) || !errors.Is(err, poolkeeper.ErrAcquireTimeout) {
			t.Errorf("error is %v", err)
		}
		stop(t, p)
	})
}

func TestPauseThatTakesTooLongLetsCallersGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, logged := logTo()
		p := fakePool(t, newFakeServer(), sqlpool.DBConfig{Logger: log})
		c := hold(t, p)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := p.Pause(ctx)
		wantLine(t, logged(), "kind=paused", "level=INFO", "in_use=1")
		wantLine(t, logged(), "kind=resumed", "level=WARN", "the pause was given up", "paused_for=1s", "deadline exceeded")
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "sqlpool_test.hold") {
			t.Errorf("Pause: %v, want who holds a connection", err)
		}
		if _, err := p.DB().ExecContext(t.Context(), "x"); err != nil {
			t.Errorf("after a pause that failed: %v", err)
		}
		_ = c.Close()
		stop(t, p)
	})
}

func TestDrainServesCallersWhomAPauseHasHeldUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := fakePool(t, newFakeServer(), sqlpool.DBConfig{})
		if err := p.Pause(t.Context()); err != nil {
			t.Fatal(err)
		}
		got := make(chan error, 1)
		go func() {
			_, err := p.DB().ExecContext(t.Context(), "x")
			got <- err
		}()
		synctest.Wait()
		stop(t, p)
		if err := <-got; err != nil {
			t.Error(err)
		}
		if err := p.Pause(t.Context()); err == nil {
			t.Error("a stopped pool can be paused")
		}
	})
}

func TestPostgresPauseAndResumeUnderLoad(t *testing.T) {
	p, onServer := startPG(t, sqlpool.PostgresConfig{MaxOpen: 4, MinIdle: 2, AcquireTimeout: 30 * time.Second})
	end := underLoad(t, 8, func(ctx context.Context) error { _, err := p.Pool().Exec(ctx, "select 1"); return err })
	for range 5 {
		if err := p.Pause(t.Context()); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the server has the check's connection only", func() bool { return onServer() == 1 })
		uses := p.Stats().Use.Count
		p.Resume()
		eventually(t, "callers go on", func() bool { return p.Stats().Use.Count > uses+20 })
	}
	end()
	stop(t, p)
}

func TestResumeEndsAPauseThatIsNotYetAtRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := fakePool(t, newFakeServer(), sqlpool.DBConfig{MaxOpen: 3})
		c := hold(t, p)
		paused := make(chan error, 1)
		go func() { paused <- p.Pause(context.WithoutCancel(t.Context())) }()
		synctest.Wait()
		p.Resume()
		advance(time.Second)
		select {
		case err := <-paused:
			if err == nil {
				t.Error("Pause says that the pool is paused")
			}
		default:
			t.Error("Pause goes on")
		}
		_ = c.Close()
		stop(t, p)
	})
}

func TestDrainBesideAPauseServesWhoHadAsked(t *testing.T) {
	for i := range 300 {
		synctest.Test(t, func(t *testing.T) {
			p := fakePool(t, newFakeServer(), sqlpool.DBConfig{MaxOpen: 1})
			c := hold(t, p)
			var wg sync.WaitGroup
			wg.Go(func() {
				if _, err := p.DB().ExecContext(t.Context(), "x"); err != nil {
					t.Errorf("%d: %v", i, err)
				}
			})
			synctest.Wait()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			wg.Go(func() { _ = p.Pause(ctx) })
			wg.Go(func() { _ = p.Drain(ctx) })
			time.Sleep(time.Second)
			_ = c.Close()
			wg.Wait()
			stop(t, p)
		})
		if t.Failed() {
			return
		}
	}
}
