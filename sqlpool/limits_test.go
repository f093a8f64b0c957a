package sqlpool_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/testserver"
	"github.com/poolkeeper/poolkeeper/sqlpool"
)

func TestPostgresLimitsAreComparedWithTheServers(t *testing.T) {
	srv := testserver.Postgres(t, "max_connections=30", "superuser_reserved_connections=3", "idle_session_timeout=60000")
	log, logged := logTo()
	p, _ := pgFor(t, srv, sqlpool.Config{MaxOpen: 9, Replicas: 3, Logger: log})
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	l, err := p.Limits(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if l.MaxConnections != 30 || l.Reserved != 0 || l.PerReplica != 10 || l.Surge != 1 || l.Demand != 40 || l.IdleTimeout != time.Minute ||
		l.OnServer < 1 || l.Proxied {
		t.Errorf("Limits = %+v", l)
	}
	for _, want := range []string{
		"3 replicas, and 1 more in a rolling update, may open 10 connections each, 40 in all; the server grants 30",
		"silent for 1m0s, and KeepAlive is 2m0s: choose less",
	} {
		if !strings.Contains(strings.Join(l.Warnings, "\n"), want) || !strings.Contains(logged(), want) {
			t.Errorf("the warnings, or the log at Start, have no %q:\n%s\n%s", want, strings.Join(l.Warnings, "\n"), logged())
		}
	}
	stop(t, p)

	// An ordinary role, with a limit of its own, through something in between.
	pgExec(t, srv, "create role app login connection limit 5")
	px := newProxy(t, srv.Addr())
	url := strings.NewReplacer(srv.Addr(), px.addr(), "postgres@", "app@").Replace(srv.URL())
	q, err := sqlpool.NewPostgres(sqlpool.Config{URL: url, MaxOpen: 4, KeepAlive: sqlpool.Off, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	if l, err = q.Limits(t.Context()); err != nil {
		t.Fatal(err)
	}
	if l.Reserved != 3 || l.UserLimit != 5 || !l.Proxied || len(l.Warnings) != 2 {
		t.Errorf("Limits = %+v", l)
	}
	stop(t, q)
}

func TestMySQLLimitsAreComparedWithTheServers(t *testing.T) {
	srv := testserver.MariaDB(t, "--max-connections=40", "--wait-timeout=30")
	p, _ := mysqlFor(t, srv, sqlpool.Config{MaxOpen: 19, Replicas: 2})
	l, err := p.Limits(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if l.MaxConnections != 40 || l.Demand != 60 || l.IdleTimeout != 30*time.Second || l.OnServer < 1 || len(l.Warnings) != 2 {
		t.Errorf("Limits = %+v", l)
	}
	stop(t, p)
}

func TestLimitsThatFitWarnOfNothing(t *testing.T) {
	p, _ := startPG(t, sqlpool.Config{MaxOpen: 5})
	l, err := p.Limits(t.Context())
	if err != nil || len(l.Warnings) != 0 {
		t.Errorf("%v, warnings %v", err, l.Warnings)
	}
	stop(t, p)
}

func TestLimitsOfUnknownDriversAreUnsupported(t *testing.T) {
	p := fakePool(t, newFakeServer(), sqlpool.Config{})
	defer stop(t, p)
	if _, err := p.Limits(context.Background()); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Limits: %v", err)
	}
	db, _ := adoptable(t)
	a, err := sqlpool.Adopt(db, sqlpool.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer stop(t, a)
	if _, err := a.Limits(context.Background()); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Limits: %v", err)
	}
}
