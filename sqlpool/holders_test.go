package sqlpool_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/sqlpool"
)

// logTo returns a logger and a function that returns what it was given.
func logTo() (*slog.Logger, func() string) {
	l := new(testkit.Log)
	return l.Logger(), l.String
}

func TestLeakIsReportedOnceWithWhereItWasTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, logged := logTo()
		p := fakePool(t, newFakeServer(), sqlpool.DBConfig{Name: "orders", LeakThreshold: time.Minute, Logger: log})
		p.SetName("orders-db")
		leaked, err := p.DB().QueryContext(t.Context(), "select")
		if err != nil || leaked.Err() != nil {
			t.Fatal(err, leaked.Err())
		}
		for range 20 { // other holders, which are quick
			if _, err := p.DB().ExecContext(t.Context(), "sleep 30s"); err != nil {
				t.Fatal(err)
			}
		}
		text := logged()
		if n := strings.Count(text, "held for too long"); n != 1 {
			t.Errorf("%d reports, want 1:\n%s", n, text)
		}
		for _, want := range []string{"pool=orders-db", "holder=rows", "TestLeakIsReportedOnceWithWhereItWasTaken", "holders_test.go:"} {
			if !strings.Contains(text, want) {
				t.Errorf("the report does not have %q:\n%s", want, text)
			}
		}
		if got := p.Stats().Leaks; got != 1 {
			t.Errorf("Stats.Leaks = %d", got)
		}
		shutAll(t, leaked)
		stop(t, p)
	})
}

func TestWithoutStacksHoldersHaveKindAndAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := fakePool(t, newFakeServer(), sqlpool.DBConfig{DisableLeakStacks: true, LeakThreshold: poolkeeper.Off})
		c := hold(t, p)
		since := time.Now()
		advance(time.Hour)
		if h := p.Holders(); len(h) != 1 || h[0].Stack != "" || !h[0].Since.Equal(since) {
			t.Errorf("holders are %+v", h)
		}
		if got := p.Stats().Leaks; got != 0 {
			t.Errorf("Stats.Leaks = %d with LeakThreshold off", got)
		}
		_ = c.Close()
		stop(t, p)
	})
}

// observer keeps what it hears.
type observer struct {
	mu  sync.Mutex
	got []error
}

func (o *observer) Observe(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.got = append(o.got, err)
}

func (o *observer) take() []error {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := o.got
	o.got = nil
	return out
}

func TestObserverHearsOfTheServerAndNotOfStatements(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer()
		p := fakePool(t, s, sqlpool.DBConfig{})
		defer stop(t, p)
		o := new(observer)
		p.ObserveWith(o)
		db, ctx := p.DB(), t.Context()

		_, _ = db.ExecContext(ctx, "fine")
		if got := o.take(); len(got) != 1 || got[0] != nil {
			t.Errorf("after success: %v, want nil once", got)
		}
		_, _ = db.ExecContext(ctx, "fail") // a statement's own fault
		for _, err := range o.take() {
			if err != nil {
				t.Errorf("after a statement's error it hears %v", err)
			}
		}
		s.bad = 100
		_, _ = db.ExecContext(ctx, "bad")
		if got := o.take(); len(got) == 0 || !errors.Is(got[0], driver.ErrBadConn) {
			t.Errorf("after the connection broke: %v", got)
		}
		s.dial.set(func(context.Context) error { return errFake })
		_, _ = db.ExecContext(ctx, "x")
		if got := o.take(); len(got) == 0 || !errors.Is(got[0], errFake) {
			t.Errorf("after a failed dial: %v", got)
		}
		p.ObserveWith(nil)
		_, _ = db.ExecContext(ctx, "x")
		if got := o.take(); len(got) != 0 {
			t.Errorf("after it was sent away: %v", got)
		}
	})
}

// A statement that a driver runs on its own path does not pass through the pool, but the connection
// comes back.
func TestObserverHearsOfAConnectionLostInAStatement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer()
		p := fakePool(t, s, sqlpool.DBConfig{})
		defer stop(t, p)
		o := new(observer)
		p.ObserveWith(o)
		c := hold(t, p)
		s.breakAll()
		_ = c.Close()
		if got := o.take(); len(got) != 1 || got[0] == nil {
			t.Errorf("heard %v", got)
		}
	})
}
