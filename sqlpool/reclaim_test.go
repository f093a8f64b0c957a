package sqlpool_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/sqlpool"
)

func TestMySQLReclaimTakesConnectionsFromThoseWhoHoldThemTooLong(t *testing.T) {
	log, logged := logTo()
	p, onServer := startMySQL(t, sqlpool.MySQLConfig{MaxOpen: 1, ReclaimAfter: 300 * time.Millisecond, AcquireTimeout: 20 * time.Second, Logger: log})
	tx, err := p.DB().BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = p.DB().ExecContext(t.Context(), "do 1"); err != nil {
		t.Errorf("another caller, who waits for the only connection: %v", err)
	}
	if _, err = tx.ExecContext(t.Context(), "do 1"); err == nil {
		t.Error("the transaction goes on on a connection that was taken away")
	}
	eventually(t, "it is counted", func() bool { return p.Stats().Evicted["dead"] == 1 }) // after its place is free
	if st := p.Stats(); st.Open != 1 || st.InUse != 0 {
		t.Errorf("open %d, in use %d", st.Open, st.InUse)
	}
	eventually(t, "it is logged", func() bool { return strings.Contains(logged(), "taken away") })
	if text := logged(); !strings.Contains(text, "taken away") || !strings.Contains(text, "holder=tx") || !strings.Contains(text, "reclaim_test.go:") {
		t.Errorf("the log has\n%s", text)
	}
	_ = tx.Rollback()
	stop(t, p)
	eventually(t, "nothing is left on the server", func() bool { return onServer() == 0 })
}

func TestPostgresReclaimWithinTheCeiling(t *testing.T) {
	p, onServer := startPG(t, sqlpool.PostgresConfig{
		MaxOpen: 1, MaxOpenCeiling: 2, ReclaimAfter: 300 * time.Millisecond, AcquireTimeout: 20 * time.Second, Logger: quiet(),
	})
	leaked, err := p.Pool().Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err = p.Pool().Exec(t.Context(), "select 1"); err != nil {
		t.Errorf("another caller, who waits for the only connection: %v", err)
	}
	if _, err = leaked.Exec(t.Context(), "select 1"); err == nil {
		t.Error("the holder goes on on a connection that was taken away")
	}
	eventually(t, "it is counted", func() bool { return p.Stats().Evicted["dead"] == 1 }) // after its place is free
	if st := p.Stats(); st.Open != 1 || st.InUse != 0 {
		t.Errorf("open %d, in use %d", st.Open, st.InUse)
	}
	begun := time.Now()
	if err = p.Stop(within(t, 10*time.Second)); err == nil || !strings.Contains(err.Error(), "1 connection taken away by ReclaimAfter and never released") {
		t.Errorf("Stop: %v; want the connection that was never released", err)
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("Stop took %v for a connection that was written off long ago", took)
	}
	eventually(t, "nothing is left on the server", func() bool { return onServer() == 0 })
	leaked.Release()

	// One that is released after all gives its place back.
	p, _ = startPG(t, sqlpool.PostgresConfig{MaxOpen: 1, ReclaimAfter: 200 * time.Millisecond, AcquireTimeout: 20 * time.Second, Logger: quiet()})
	late, err := p.Pool().Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is taken away", func() bool { return len(p.Holders()) == 0 })
	_, err = p.Pool().Exec(within(t, 50*time.Millisecond), "select 1")
	if e, ok := errors.AsType[*poolkeeper.AcquireError](err); !ok || e.Reclaimed != 1 || !strings.Contains(err.Error(), "1 connection reclaimed but not released by their callers") {
		t.Errorf("got %v; want to be told what takes the place", err)
	}
	late.Release()
	if _, err := p.Pool().Exec(t.Context(), "select 1"); err != nil {
		t.Error(err)
	}
	stop(t, p)
}

// A leaked transaction that was reclaimed is no reason for Stop to wait or to complain.
func TestMySQLStopAfterReclaimOfWhatIsNeverReturned(t *testing.T) {
	p, onServer := startMySQL(t, sqlpool.MySQLConfig{MaxOpen: 2, ReclaimAfter: 200 * time.Millisecond, Logger: quiet()})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if _, err := p.DB().BeginTx(ctx, nil); err != nil { // leaked on purpose
		t.Fatal(err)
	}
	eventually(t, "it is taken away", func() bool { return len(p.Holders()) == 0 })
	if err := p.Stop(within(t, 5*time.Second)); err != nil {
		t.Error(err)
	}
	eventually(t, "nothing is left on the server", func() bool { return onServer() == 0 })
}

// pgxpool does not tell which of several connections was hijacked: none of them is taken away until
// it is known.
func TestPostgresReclaimLeavesConnectionsAloneThatMayBeHijacked(t *testing.T) {
	log, logged := logTo()
	p, _ := startPG(t, sqlpool.PostgresConfig{MaxOpen: 2, ReclaimAfter: 200 * time.Millisecond, Logger: log})
	c, other := acquire(t, p), acquire(t, p)
	own := c.Hijack()
	eventually(t, "it is said", func() bool { return strings.Contains(logged(), "one was hijacked") })
	if _, err := own.Exec(t.Context(), "select 1"); err != nil {
		t.Error(err)
	}
	if _, err := other.Exec(t.Context(), "select 1"); err != nil {
		t.Error(err)
	}
	other.Release() // so it was the other one
	eventually(t, "nobody holds a connection", func() bool { return len(p.Holders()) == 0 })
	_ = own.Close(t.Context())
	stop(t, p)
}

// Some callers hold for longer than the limit again and again, and others do not. The pool neither
// loses nor gains a place.
func TestReclaimKeepsTheBooksUnderLoad(t *testing.T) {
	cfg := sqlpool.PostgresConfig{
		URL: testserver.SharedPostgres(t).URL(), MaxOpen: 4, MaxOpenCeiling: 8, ReclaimAfter: 20 * time.Millisecond,
		AcquireTimeout: testkit.Patience, Logger: quiet(),
	}
	p, err := sqlpool.NewPostgres(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer stop(t, p)
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 15 {
				c, err := p.Pool().Acquire(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				took := 0.001
				if (i+j)%4 == 0 {
					took = 0.02 // at the very moment of the limit
				}
				_, _ = c.Exec(t.Context(), "select pg_sleep($1)", took)
				c.Release()
			}
		})
	}
	wg.Wait()
	eventually(t, "everything is idle", func() bool { return p.Stats().InUse == 0 })
	cfg.ReclaimAfter = 0 // off: what is held from here on is not taken away
	if err := p.Reload(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	var held []*pgxpool.Conn
	for range 4 { // all places are there again
		c, err := p.Pool().Acquire(within(t, testkit.Patience))
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
	}
	short, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	if c, err := p.Pool().Acquire(short); err == nil {
		t.Error("a fifth connection of four")
		c.Release()
	}
	for _, c := range held {
		c.Release()
	}
}

func TestReclaimOutOfReachIsSaidOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, logged := logTo()
		p := fakePool(t, newFakeServer(), sqlpool.DBConfig{ReclaimAfter: time.Second, Logger: log})
		c := hold(t, p)
		advance(time.Minute)
		if n := strings.Count(logged(), "their sockets are out of reach"); n != 1 {
			t.Errorf("said %d times", n)
		}
		if _, err := c.ExecContext(t.Context(), "x"); err != nil {
			t.Errorf("a connection that cannot be taken away: %v", err)
		}
		_ = c.Close()
		if err := p.Reload(context.WithoutCancel(t.Context()), sqlpool.DBConfig{Logger: log}); err != nil { // turns it off
			t.Error(err)
		}
		stop(t, p)
	})
}
