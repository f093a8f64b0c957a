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
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/sqlpool"
)

// What lifecycle looks for in a component. A typing error in a signature would lose a feature in
// silence.
var (
	_ lifecycle.Component        = (*sqlpool.DB)(nil)
	_ lifecycle.Drainer          = (*sqlpool.DB)(nil)
	_ lifecycle.Aborter          = (*sqlpool.DB)(nil)
	_ lifecycle.Checker          = (*sqlpool.DB)(nil)
	_ lifecycle.StatsProvider    = (*sqlpool.DB)(nil)
	_ lifecycle.HolderLister     = (*sqlpool.DB)(nil)
	_ lifecycle.ObserverSetter   = (*sqlpool.DB)(nil)
	_ lifecycle.SettingsProvider = (*sqlpool.DB)(nil)
	_ lifecycle.NameSetter       = (*sqlpool.DB)(nil)

	_ lifecycle.Component        = (*sqlpool.Postgres)(nil)
	_ lifecycle.Drainer          = (*sqlpool.Postgres)(nil)
	_ lifecycle.Aborter          = (*sqlpool.Postgres)(nil)
	_ lifecycle.Checker          = (*sqlpool.Postgres)(nil)
	_ lifecycle.StatsProvider    = (*sqlpool.Postgres)(nil)
	_ lifecycle.HolderLister     = (*sqlpool.Postgres)(nil)
	_ lifecycle.ObserverSetter   = (*sqlpool.Postgres)(nil)
	_ lifecycle.SettingsProvider = (*sqlpool.Postgres)(nil)
	_ lifecycle.NameSetter       = (*sqlpool.Postgres)(nil)
)

// INV-8: transactions, rows, sticky connections and callers in the queue are finished; new work is
// refused at once.
func TestDrainFinishesWorkInFlightAndRefusesNewWorkAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := fakePool(t, newFakeServer(), sqlpool.DBConfig{Name: "orders", MaxOpen: 3})
		ctx := t.Context()
		tx, err := p.DB().BeginTx(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		rows, err := p.DB().QueryContext(ctx, "select")
		if err != nil {
			t.Fatal(err)
		}
		c := hold(t, p)
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, qerr := p.DB().ExecContext(ctx, "queued before the drain"); qerr != nil {
				t.Errorf("a caller who was in the queue: %v", qerr)
			}
		})
		synctest.Wait()

		drained := make(chan error, 1)
		go func() { drained <- p.Drain(ctx) }()
		synctest.Wait()

		start := time.Now()
		_, err = p.DB().ExecContext(ctx, "new")
		if !errors.Is(err, poolkeeper.ErrDraining) || !strings.Contains(err.Error(), `"orders"`) || time.Since(start) != 0 {
			t.Errorf("new work: %v after %v; want ErrDraining at once", err, time.Since(start))
		}
		if _, err := tx.ExecContext(ctx, "insert"); err != nil {
			t.Errorf("in the transaction: %v", err)
		}
		if _, err := c.ExecContext(ctx, "set"); err != nil {
			t.Errorf("on the sticky connection: %v", err)
		}
		if tx2, err := c.BeginTx(ctx, nil); err != nil {
			t.Errorf("a transaction on the sticky connection: %v", err)
		} else if err := tx2.Commit(); err != nil {
			t.Error(err)
		}
		if err := tx.Commit(); err != nil {
			t.Errorf("Commit: %v", err)
		}
		for rows.Next() {
		}
		if err := rows.Err(); err != nil {
			t.Error(err)
		}
		shutAll(t, rows, c)
		wg.Wait()
		if err := <-drained; err != nil {
			t.Errorf("Drain: %v", err)
		}
		stop(t, p)
	})
}

// Idle connections must not let new work through either.
func TestDrainRefusesWorkThatWouldFindAnIdleConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := fakePool(t, newFakeServer(), sqlpool.DBConfig{MaxOpen: 3})
		a, b := hold(t, p), hold(t, p)
		_ = b.Close()
		if err := p.Drain(expired(t)); err == nil || !strings.Contains(err.Error(), "1 connection still held") {
			t.Errorf("Drain while a connection is held: %v", err)
		}
		if _, err := p.DB().ExecContext(t.Context(), "x"); !errors.Is(err, poolkeeper.ErrDraining) {
			t.Errorf("new work: %v", err)
		}
		_ = a.Close()
		stop(t, p)
		if _, err := p.DB().ExecContext(t.Context(), "x"); err == nil {
			t.Error("work after Stop succeeds")
		}
	})
}

func expired(t *testing.T) context.Context {
	t.Helper()
	return over(t.Context())
}

// over returns a context that has ended.
func over(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	return ctx
}

// INV-9, INV-10.
func TestStopClosesEverythingAndSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer()
		p := fakePool(t, s, sqlpool.DBConfig{MaxOpen: 5, MinIdle: 3})
		synctest.Wait()
		c := hold(t, p)
		_ = c.Close()
		if err := p.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := s.Open(); got != 4 {
			t.Errorf("%d connections are open before Stop, want MinIdle and the check's, 4", got)
		}
		stop(t, p)
		if got := s.Open(); got != 0 {
			t.Errorf("%d connections are open after Stop", got)
		}
		if st := p.Stats(); st.Open != 0 || st.Evicted["closed"] != 3 {
			t.Errorf("after Stop: open %d, evicted %v", st.Open, st.Evicted)
		}
		if err := p.Check(t.Context()); !errors.Is(err, poolkeeper.ErrClosed) {
			t.Errorf("Check after Stop: %v", err)
		}
		if err := p.Start(t.Context()); !errors.Is(err, poolkeeper.ErrClosed) {
			t.Errorf("Start after Stop: %v", err)
		}
	})
}

// Drain counts the connections, and the Stop after it names their holders: a shutdown that reports
// both names each once.
func TestDrainAndStopNameAHolderOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := fakePool(t, newFakeServer(), sqlpool.DBConfig{Name: "orders"})
		leaked := hold(t, p)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		drained := p.Drain(ctx)
		if want := `sqlpool: drain "orders": 1 connection still held: context deadline exceeded`; drained == nil || drained.Error() != want {
			t.Errorf("Drain: %v\nwant   %s", drained, want)
		}
		both := errors.Join(drained, p.Stop(ctx)).Error()
		if n := strings.Count(both, "acquire_test.go:"); n != 1 {
			t.Errorf("the holder is named %d times in\n%s", n, both)
		}
		_ = leaked.Close() // closes its connection: the handle is closed
	})
}

func TestStopAtItsDeadlineNamesWhoStillHoldsAConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := fakePool(t, newFakeServer(), sqlpool.DBConfig{Name: "orders"})
		leaked := hold(t, p)
		advance(40 * time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		err := p.Stop(ctx)
		if got := time.Since(start); got > 1500*time.Millisecond {
			t.Errorf("Stop took %v with a deadline of 1s", got)
		}
		held, ok := errors.AsType[*poolkeeper.HeldError](err)
		if !ok {
			t.Fatalf("Stop: %v (%T), want a *HeldError", err, err)
		}
		if len(held.Holders) != 1 || held.Holders[0].Kind != poolkeeper.KindConn || held.Left != 1 || held.Cut != 0 {
			t.Errorf("HeldError = %+v", held)
		}
		want := `poolkeeper: stop "orders": cannot cut off 1 connection held by conn for 41s by sqlpool_test.hold (acquire_test.go:`
		if !strings.HasPrefix(err.Error(), want) ||
			!errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error is\n%v\nwant prefix\n%s", err, want)
		}
		if again := p.Stop(t.Context()); !errors.Is(again, err) {
			t.Errorf("a second Stop: %v, want the outcome of the first", again)
		}
		_ = leaked.Close() // closes its connection: the handle is closed
	})
}

func TestAbortWaitsForNobodyAndEndsAStopUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := fakePool(t, newFakeServer(), sqlpool.DBConfig{})
		leaked := hold(t, p)
		stopped := make(chan error, 1)
		go func() { stopped <- p.Stop(t.Context()) }()
		synctest.Wait()
		start := time.Now()
		if err := p.Abort(); err == nil {
			t.Error("Abort says nothing of the connection that is held")
		}
		if err := <-stopped; err == nil {
			t.Error("the Stop under way says nothing of the connection that is held")
		}
		if got := time.Since(start); got > 500*time.Millisecond {
			t.Errorf("Abort took %v", got)
		}
		_ = leaked.Close()
	})
}

func TestStopAndAbortAreLegalWithoutStart(t *testing.T) {
	for name, end := range map[string]func(context.Context, *sqlpool.DB) error{
		"Stop":         func(ctx context.Context, p *sqlpool.DB) error { return p.Stop(ctx) },
		"Stop at once": func(ctx context.Context, p *sqlpool.DB) error { return p.Stop(over(ctx)) },
		"Abort":        func(_ context.Context, p *sqlpool.DB) error { return p.Abort() },
		"Drain, Stop": func(ctx context.Context, p *sqlpool.DB) error {
			return errors.Join(p.Drain(ctx), p.Stop(ctx))
		},
		"Abort, Stop": func(ctx context.Context, p *sqlpool.DB) error { return errors.Join(p.Abort(), p.Stop(ctx)) },
		"Stop and Stop": func(ctx context.Context, p *sqlpool.DB) error {
			return errors.Join(p.Stop(ctx), p.Stop(ctx))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // the bubble fails if a goroutine is left
				p, err := sqlpool.NewDB(newFakeServer(), sqlpool.DBConfig{MinIdle: 2})
				if err != nil {
					t.Fatal(err)
				}
				if err := end(t.Context(), p); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestManyStopsAtOnceAllReturnTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := fakePool(t, newFakeServer(), sqlpool.DBConfig{})
		c := hold(t, p)
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if err := p.Stop(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		synctest.Wait()
		if err := p.Stop(impatient); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a Stop that joins another obeys its own deadline: got %v", err)
		}
		advance(10 * time.Second)
		_ = c.Close()
		wg.Wait()
	})
}

func TestStopDuringDialClosesTheLateConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer()
		p := fakePool(t, s, sqlpool.DBConfig{})
		s.dial.set(func(context.Context) error { time.Sleep(2 * time.Second); return nil }) // deaf to its context
		got := make(chan error, 1)
		go func() {
			_, err := p.DB().ExecContext(t.Context(), "x")
			got <- err
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := p.Stop(ctx)
		if err == nil {
			t.Error("Stop says nothing of a dial that does not end")
		}
		if err := <-got; err == nil {
			t.Error("the caller got a connection of a pool that has stopped")
		}
		advance(5 * time.Second)
		if n := s.Open(); n != 0 {
			t.Errorf("%d connections are open", n)
		}
	})
}

func TestStopDuringStartEndsTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer()
		s.dial.set(func(context.Context) error { return errFake })
		p, err := sqlpool.NewDB(s, sqlpool.DBConfig{Start: poolkeeper.StartWaitForServer})
		if err != nil {
			t.Fatal(err)
		}
		started := make(chan error, 1)
		go func() { started <- p.Start(t.Context()) }()
		advance(5 * time.Minute)
		stop(t, p)
		if err := <-started; err == nil || !errors.Is(err, errFake) {
			t.Errorf("Start: %v, want why it was ended and the last error of the server", err)
		}
	})
}

func TestStopDoesNotWaitForAStuckDriverToClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer()
		p := fakePool(t, s, sqlpool.DBConfig{})
		release := make(chan struct{})
		s.closing.set(func() { <-release })
		_, _ = p.DB().ExecContext(t.Context(), "x")
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		start := time.Now()
		if err := p.Stop(ctx); err == nil || !strings.Contains(err.Error(), "being closed") {
			t.Errorf("Stop: %v", err)
		}
		if got := time.Since(start); got > 800*time.Millisecond {
			t.Errorf("Stop took %v with a deadline of 500ms", got)
		}
		close(release)
	})
}

// A caller that returns a broken connection must not hang on its close.
func TestReturningABrokenConnectionIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer()
		p := fakePool(t, s, sqlpool.DBConfig{})
		release := make(chan struct{})
		c := hold(t, p)
		s.closing.set(func() { <-release })
		s.breakAll()
		start := time.Now()
		_ = c.Close()
		if got := time.Since(start); got > time.Second {
			t.Errorf("Close took %v", got)
		}
		close(release)
		stop(t, p)
	})
}

// After a caller has closed the handle, the pool's own work ends. Work in flight goes on.
func TestClosingTheHandleEndsThePoolsOwnWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer()
		p := fakePool(t, s, sqlpool.DBConfig{MaxOpen: 1, MinIdle: 1})
		tx, err := p.DB().BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		queued := make(chan error, 1)
		go func() {
			_, err := p.DB().ExecContext(t.Context(), "x")
			queued <- err
		}()
		synctest.Wait()
		if err := p.DB().Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-queued; !errors.Is(err, poolkeeper.ErrClosed) {
			t.Errorf("a caller in the queue: %v, want ErrClosed", err)
		}
		if err := p.Check(t.Context()); !errors.Is(err, poolkeeper.ErrClosed) {
			t.Errorf("Check: %v", err)
		}
		if _, err := tx.ExecContext(t.Context(), "still"); err != nil {
			t.Errorf("a transaction in flight: %v", err)
		}
		stopped := make(chan error, 1)
		go func() { stopped <- p.Stop(t.Context()) }()
		synctest.Wait()
		select {
		case err := <-stopped:
			t.Errorf("Stop did not wait for the transaction: %v", err)
		default:
		}
		if err := tx.Commit(); err != nil {
			t.Errorf("Commit: %v", err)
		}
		if err := <-stopped; err != nil {
			t.Errorf("Stop: %v", err)
		}
		if n := s.Open(); n != 0 {
			t.Errorf("%d connections are open", n)
		}
	})
}

func TestClosingTheHandleWithoutStopLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer()
		p, err := sqlpool.NewDB(s, sqlpool.DBConfig{MinIdle: 2})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		advance(time.Minute)
		if err := p.DB().Close(); err != nil {
			t.Fatal(err)
		}
		if n := s.Open(); n != 0 {
			t.Errorf("%d connections are open", n)
		}
	}) // and no goroutine or timer is left in the bubble
}

// Drain under load: of what began before, nothing fails.
func TestNothingThatBeganBeforeTheStopFails(t *testing.T) {
	for range 20 {
		p := fakePool(t, newFakeServer(), sqlpool.DBConfig{MaxOpen: 4})
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				for {
					_, err := p.DB().ExecContext(t.Context(), "sleep 100us")
					if err == nil {
						continue
					}
					if !errors.Is(err, poolkeeper.ErrDraining) && !errors.Is(err, poolkeeper.ErrClosed) && !isClosedHandle(err) {
						t.Error(err)
					}
					return
				}
			})
		}
		stop(t, p)
		wg.Wait()
	}
}

// isClosedHandle recognizes database/sql's own error of a closed handle, for which it has no
// sentinel.
func isClosedHandle(err error) bool { return err.Error() == "sql: database is closed" }

func TestHoldersAreListedByWhatTheyHold(t *testing.T) {
	p := fakePool(t, newFakeServer(), sqlpool.DBConfig{MaxOpen: 5})
	defer stop(t, p)
	ctx := t.Context()
	tx, err := p.DB().BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := p.DB().QueryContext(ctx, "select")
	if err != nil || rows.Err() != nil {
		t.Fatal(err, rows.Err())
	}
	st, err := p.DB().PrepareContext(ctx, "stmt")
	if err != nil {
		t.Fatal(err)
	}
	stRows, err := st.QueryContext(ctx)
	if err != nil || stRows.Err() != nil {
		t.Fatal(err, stRows.Err())
	}
	c := hold(t, p)

	var kinds []string
	for _, h := range p.Holders() {
		kinds = append(kinds, h.Kind)
		if !strings.HasPrefix(h.Stack, "github.com/poolkeeper/poolkeeper/sqlpool_test.") {
			t.Errorf("stack of %s does not begin with its caller:\n%s", h.Kind, h.Stack)
		}
	}
	want := []string{poolkeeper.KindTx, poolkeeper.KindRows, poolkeeper.KindRows, poolkeeper.KindConn}
	if strings.Join(kinds, " ") != strings.Join(want, " ") {
		t.Errorf("kinds are %v, want %v", kinds, want)
	}
	shutAll(t, rows, stRows, st, c)
	if err := tx.Rollback(); err != nil {
		t.Error(err)
	}
	if n := len(p.Holders()); n != 0 {
		t.Errorf("%d holders after all was returned", n)
	}
}

func TestAbortDoesNotBlameAStartThatIsOver(t *testing.T) {
	for range 20 {
		p := fakePool(t, newFakeServer(), sqlpool.DBConfig{MaxOpen: 1})
		c := hold(t, p)
		if err := p.Abort(); err == nil || strings.Contains(err.Error(), "Start") {
			t.Fatalf("Abort: %v", err)
		}
		_ = c.Close()
	}
}
