package sqlpool_test

import (
	"context"
	"database/sql"
	"errors"
	"reflect"
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

type handleOf struct{ db *sql.DB }

func (h handleOf) DB() *sql.DB { return h.db }

func TestAdoptedHandleIsCheckedDrainedAndClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, s := adoptable(t)
		p, err := sqlpool.Adopt(db, sqlpool.AdoptConfig{Name: "legacy"})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := p.Check(t.Context()); err != nil {
			t.Error(err)
		}
		c := hold(t, handleOf{db})
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
		p, err := sqlpool.Adopt(db, sqlpool.AdoptConfig{Name: "legacy"})
		if err != nil {
			t.Fatal(err)
		}
		leaked := hold(t, handleOf{db})
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
		db.SetMaxOpenConns(1)
		p, err := sqlpool.Adopt(db, sqlpool.AdoptConfig{})
		if err != nil {
			t.Fatal(err)
		}
		defer stop(t, p)
		c := hold(t, handleOf{db})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := p.Check(ctx); err == nil || !strings.Contains(err.Error(), "1 connections are in use") {
			t.Errorf("Check: %v", err)
		}
		_ = c.Close()
	})
}

func TestSizesAndTimesOfAnAdoptedHandleAreItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, s := adoptable(t)
		db.SetMaxOpenConns(3)
		p, err := sqlpool.Adopt(db, sqlpool.AdoptConfig{CheckQuery: "healthy?"})
		if err != nil {
			t.Fatal(err)
		}
		defer stop(t, p)
		if got := p.Stats().Max; got != 3 {
			t.Errorf("the handle's limit of 3 is now %d", got)
		}
		if err := p.Check(t.Context()); err != nil || !strings.Contains(strings.Join(s.takeTrace(), " "), "healthy?") {
			t.Errorf("CheckQuery was not run (%v)", err)
		}
		db.SetMaxOpenConns(5)
		db.SetMaxIdleConns(5)
		db.SetConnMaxIdleTime(time.Minute)
		burst(t, handleOf{db}, 5)
		if st := p.Stats(); st.Max != 5 || st.Idle != 5 {
			t.Errorf("Stats = %+v, want all 5 kept idle", st)
		}
		if got := setting(p.Settings(), "max_open"); got != "5" {
			t.Errorf("max_open is %s in Settings", got)
		}
		advance(3 * time.Minute)
		if st := p.Stats(); st.Open != 0 || st.Evicted["idle"] != 5 {
			t.Errorf("after ConnMaxIdleTime: open %d, evicted %v", st.Open, st.Evicted)
		}
	})
}

// What a handle gives no means to is not offered, instead of failing when it is called: a Registry
// and the health endpoints look for these methods.
func TestAdoptedHandleHasNoMethodForWhatItCannotDo(t *testing.T) {
	for _, method := range []string{"Pause", "Resume", "Reset", "Reload", "Plan", "Limits", "Holders", "ObserveWith"} {
		if _, ok := reflect.TypeFor[*sqlpool.Adopted]().MethodByName(method); ok {
			t.Errorf("Adopted has the method %s", method)
		}
	}
}

func TestAdoptTakesSQLMock(t *testing.T) {
	db, mock, err := sqlmock.New(sqlmock.MonitorPingsOption(true))
	if err != nil {
		t.Fatal(err)
	}
	mock.ExpectPing()
	mock.ExpectExec("UPDATE").WillReturnResult(sqlmock.NewResult(0, 1))
	mock.ExpectClose()
	p, err := sqlpool.Adopt(db, sqlpool.AdoptConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), "UPDATE x"); err != nil {
		t.Error(err)
	}
	stop(t, p)
	if err := mock.ExpectationsWereMet(); err != nil {
		t.Error(err)
	}
}
