package sqlpool_test

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/DATA-DOG/go-sqlmock"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/sqlpool"
)

// adoptable returns a handle that a test has opened itself.
func adoptable(t *testing.T) (*sql.DB, *fakeServer) {
	t.Helper()
	s := newFakeServer()
	db := sql.OpenDB(s)
	t.Cleanup(func() { _ = db.Close() })
	return db, s
}

func TestAdoptedHandleIsCheckedDrainedAndClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, s := adoptable(t)
		p, err := sqlpool.Adopt(db, sqlpool.Config{Name: "legacy"})
		if err != nil {
			t.Fatal(err)
		}
		if p.DB() != db {
			t.Error("DB returns another handle")
		}
		if err := p.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := p.Check(t.Context()); err != nil {
			t.Error(err)
		}
		c := hold(t, p)
		if st := p.Stats(); st.InUse != 1 || st.Open != 1 {
			t.Errorf("Stats = %+v", st)
		}
		time.AfterFunc(10*time.Second, func() { _ = c.Close() })
		begun := time.Now()
		if err := p.Drain(t.Context()); err != nil || time.Since(begun) < 10*time.Second {
			t.Errorf("Drain: %v after %v, want it to wait for the holder", err, time.Since(begun))
		}
		stop(t, p)
		if n := s.Open(); n != 0 {
			t.Errorf("%d connections are open", n)
		}
		if err := p.Check(t.Context()); !errors.Is(err, poolkeeper.ErrClosed) {
			t.Errorf("Check after Stop: %v", err)
		}
	})
}

func TestStopOfAnAdoptedHandleIsBoundedAndSaysWhatItCannotDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, _ := adoptable(t)
		p, err := sqlpool.Adopt(db, sqlpool.Config{Name: "legacy"})
		if err != nil {
			t.Fatal(err)
		}
		leaked := hold(t, p)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err = p.Stop(ctx)
		held, ok := errors.AsType[*poolkeeper.HeldError](err)
		if !ok || held.Left != 1 || len(held.Holders) != 0 || !strings.Contains(err.Error(), "cannot cut off 1 connection") {
			t.Errorf("Stop: %v", err)
		}
		_ = leaked.Close()
	})
}

func TestSaturatedAdoptedHandleIsDegradedAndNotDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, _ := adoptable(t)
		p, err := sqlpool.Adopt(db, sqlpool.Config{MaxOpen: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer stop(t, p)
		c := hold(t, p)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := p.Check(ctx); err == nil || !strings.Contains(err.Error(), "1 connections are in use") {
			t.Errorf("Check: %v", err)
		}
		_ = c.Close()
	})
}

func TestAdoptSetsWhatTheHandleCanDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, _ := adoptable(t)
		db.SetMaxOpenConns(3)
		p, err := sqlpool.Adopt(db, sqlpool.Config{})
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Stats().Max; got != 3 {
			t.Errorf("a limit of the handle that Config does not name is now %d", got)
		}
		stop(t, p)

		db, s := adoptable(t)
		p, err = sqlpool.Adopt(db, sqlpool.Config{MaxOpen: 5, MaxIdleTime: time.Minute, MaxLifetime: time.Hour, CheckQuery: "healthy?"})
		if err != nil {
			t.Fatal(err)
		}
		defer stop(t, p)
		if err := p.Check(t.Context()); err != nil || !strings.Contains(strings.Join(s.takeTrace(), " "), "healthy?") {
			t.Errorf("CheckQuery was not run (%v)", err)
		}
		burst(t, p, 5)
		if st := p.Stats(); st.Max != 5 || st.Idle != 5 {
			t.Errorf("Stats = %+v, want all 5 kept idle", st)
		}
		advance(3 * time.Minute)
		if st := p.Stats(); st.Open != 0 || st.Evicted["idle"] != 5 {
			t.Errorf("after MaxIdleTime: open %d, evicted %v", st.Open, st.Evicted)
		}
	})
}

func TestAdoptTakesSQLMock(t *testing.T) {
	db, mock, err := sqlmock.New(sqlmock.MonitorPingsOption(true))
	if err != nil {
		t.Fatal(err)
	}
	mock.ExpectPing()
	mock.ExpectExec("UPDATE").WillReturnResult(sqlmock.NewResult(0, 1))
	mock.ExpectClose()
	p, err := sqlpool.Adopt(db, sqlpool.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := p.DB().ExecContext(t.Context(), "UPDATE x"); err != nil {
		t.Error(err)
	}
	stop(t, p)
	if err := mock.ExpectationsWereMet(); err != nil {
		t.Error(err)
	}
}
