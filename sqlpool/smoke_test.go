package sqlpool_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/testserver"
	"github.com/poolkeeper/poolkeeper/sqlpool"
)

func TestSmokePostgres(t *testing.T) {
	srv := testserver.SharedPostgres(t)
	p, err := sqlpool.NewPostgres(sqlpool.Config{URL: srv.URL(), MaxOpen: 5, MinIdle: 2, MaxIdleTime: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 50 {
				var n int
				if err := p.Pool().QueryRow(t.Context(), "select 1").Scan(&n); err != nil {
					t.Error(err)
				}
				if err := p.DB().QueryRowContext(t.Context(), "select 1").Scan(&n); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%+v", p.Stats())
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := p.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", p.Stats().Evicted)
	if err := p.Pool().Ping(t.Context()); !errors.Is(err, poolkeeper.ErrClosed) {
		t.Fatal(err)
	}
}

func TestSmokeMySQL(t *testing.T) {
	srv := testserver.SharedMariaDB(t)
	p, err := sqlpool.NewMySQL(sqlpool.Config{URL: srv.URL(), MaxOpen: 5, MinIdle: 2, MaxIdleTime: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 50 {
				var n int
				if err := p.DB().QueryRowContext(t.Context(), "select 1").Scan(&n); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%+v", p.Stats())
	rows, err := p.DB().Query("select 1")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	err = p.Stop(ctx)
	t.Log(err)
	rows.Close()
	t.Logf("%+v", p.Stats().Evicted)
	if err := p.DB().Ping(); err == nil {
		t.Fatal(err)
	}
}
