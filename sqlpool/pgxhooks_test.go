package sqlpool_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/sqlpool"
	"github.com/poolkeeper/poolkeeper/sqlpool/sqlpooltest"
)

// pgFake makes a pool on a fake server that knows the query "x".
func pgFake(t *testing.T, cfg sqlpool.PostgresConfig) *sqlpool.Postgres {
	t.Helper()
	srv := sqlpooltest.ServePostgres(t)
	if cfg.URL == "" {
		cfg.URL = srv.URL()
	}
	cfg.Logger = quiet()
	srv.Answer("x", sqlpooltest.Answer{})
	p, err := sqlpool.NewPostgres(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Abort() })
	return p
}

// The user's BeforeConnect may replace the tracer, and the pool's with it.
func TestPostgresReplacedTracerSurvivesAReset(t *testing.T) {
	p := pgFake(t, sqlpool.PostgresConfig{Configure: func(c *pgxpool.Config) error {
		c.BeforeConnect = func(_ context.Context, conn *pgx.ConnConfig) error {
			conn.Tracer = nil
			return nil
		}
		return nil
	}})
	for i := range 3 {
		if _, err := p.Pool().Exec(t.Context(), "x"); err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		p.Reset()
	}
}

// The user's BeforeConnect may replace DialFunc: the socket is known all the same.
func TestPostgresReplacedDialFuncIsCutAtAbort(t *testing.T) {
	p := pgFake(t, sqlpool.PostgresConfig{Configure: func(c *pgxpool.Config) error {
		c.BeforeConnect = func(_ context.Context, conn *pgx.ConnConfig) error {
			conn.DialFunc = new(net.Dialer).DialContext
			return nil
		}
		return nil
	}})
	c, err := p.Pool().Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Release()
	var held *poolkeeper.HeldError
	if err := p.Abort(); !errors.As(err, &held) || held.Cut != 1 {
		t.Errorf("Abort = %v", err)
	}
}

// Credentials may take long. What they have answered before a Reset may be outdated by it.
func TestPostgresResetReachesAConnectionWhoseCredentialsWereAskedForBefore(t *testing.T) {
	asked, answer := make(chan struct{}, 10), make(chan struct{})
	p := pgFake(t, sqlpool.PostgresConfig{DialTimeout: 20 * time.Second, Credentials: func(context.Context) (string, string, error) {
		asked <- struct{}{}
		<-answer
		return "fake", "x", nil
	}})
	got := make(chan error, 1)
	go func() {
		_, err := p.Pool().Exec(t.Context(), "x")
		got <- err
	}()
	<-asked
	p.Reset()
	close(answer)
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	before := p.Stats().Dials
	if _, err := p.Pool().Exec(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the connection is replaced", func() bool { // pgxpool closes in the background
		return p.Stats().Dials > before || p.Stats().Evicted["reload"] > 0
	})
}

// The hosts of a URL are tried one after the other.
func TestPostgresSilentHostLeavesTimeForTheNext(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0") // accepts, and is silent
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	srv := sqlpooltest.ServePostgres(t)
	srv.Answer("x", sqlpooltest.Answer{})
	p := pgFake(t, sqlpool.PostgresConfig{
		URL:         fmt.Sprintf("postgres://fake@%s,%s/fake?sslmode=disable", l.Addr(), srv.Addr()),
		DialTimeout: time.Second,
	})
	if err := p.Check(t.Context()); err != nil {
		t.Errorf("Check: %v", err)
	}
	if _, err := p.Pool().Exec(t.Context(), "x"); err != nil {
		t.Errorf("Exec: %v", err)
	}
}

func TestPostgresPanicOfAUsersHookIsTheUsers(t *testing.T) {
	p := pgFake(t, sqlpool.PostgresConfig{MaxOpen: 1, Configure: func(c *pgxpool.Config) error {
		c.PrepareConn = func(context.Context, *pgx.Conn) (bool, error) { panic("mine") }
		return nil
	}})
	for range 3 { // no place is lost
		if _, err := p.Pool().Exec(t.Context(), "x"); err == nil || !strings.Contains(err.Error(), "mine") {
			t.Errorf("Exec: %v", err)
		}
	}
}

func TestPostgresPanicOfCredentialsIsAnError(t *testing.T) {
	p := pgFake(t, sqlpool.PostgresConfig{Credentials: func(context.Context) (string, string, error) { panic("vault") }})
	if _, err := p.Pool().Exec(t.Context(), "x"); err == nil || !strings.Contains(err.Error(), "vault") {
		t.Errorf("Exec: %v", err)
	}
	if err := p.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "vault") {
		t.Errorf("Check: %v", err)
	}
}
