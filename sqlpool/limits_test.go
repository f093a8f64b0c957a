package sqlpool_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/sqlpool"
)

func TestPostgresLimitsAreComparedWithTheServers(t *testing.T) {
	testkit.Slow(t)
	srv := testserver.Postgres(t, "max_connections=30", "superuser_reserved_connections=3", "idle_session_timeout=60000")
	log, logged := logTo()
	p, _ := pgFor(t, srv, sqlpool.PostgresConfig{MaxOpen: 9, Instances: 3, KeepAlive: 2 * time.Minute, Logger: log})
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	l, err := p.Limits(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if l.MaxConnections != 30 || l.Reserved != 0 || l.PerInstance != 10 || l.Surge != 1 || l.Demand != 40 || l.IdleTimeout != time.Minute ||
		l.OnServer < 1 || l.Proxied {
		t.Errorf("Limits = %+v", l)
	}
	for _, want := range []string{
		"3 instances, and 1 more in a rolling update, may open 10 connections each, 40 in all; the server grants 30",
		"silent for 1m0s, and KeepAlive is 2m0s: choose less",
	} {
		if !strings.Contains(strings.Join(l.Warnings, "\n"), want) || !strings.Contains(logged(), want) {
			t.Errorf("the warnings, or the log at Start, have no %q:\n%s\n%s", want, strings.Join(l.Warnings, "\n"), logged())
		}
	}
	stop(t, p)

	// An ordinary role, with a limit of its own, through something in between.
	pgExec(t, srv, "create role app login connection limit 5")
	px := testkit.NewProxy(t, srv.Addr())
	url := strings.NewReplacer(srv.Addr(), px.Addr(), "postgres@", "app@").Replace(srv.URL())
	q, err := sqlpool.NewPostgres(sqlpool.PostgresConfig{URL: url, MaxOpen: 4, KeepAlive: poolkeeper.Off, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	if l, err = q.Limits(t.Context()); err != nil {
		t.Fatal(err)
	}
	if l.Reserved != 3 || l.UserLimit != 5 || !l.Proxied || len(l.Warnings) != 2 || !strings.Contains(l.Warnings[1], "1m0s, and KeepAlive is off, MaxLifetime 30m0s") {
		t.Errorf("Limits = %+v", l)
	}
	for lifetime, want := range map[time.Duration]string{
		30 * time.Second: "", // none is ever silent for so long
		poolkeeper.Off:   "1m0s, and KeepAlive and MaxLifetime are off",
	} {
		if err = q.Reload(t.Context(), sqlpool.PostgresConfig{URL: url, MaxOpen: 1, KeepAlive: poolkeeper.Off, MaxLifetime: lifetime, Logger: quiet()}); err != nil {
			t.Fatal(err)
		}
		if l, err = q.Limits(t.Context()); err != nil || (want == "") != (len(l.Warnings) == 0) || !strings.Contains(strings.Join(l.Warnings, ""), want) {
			t.Errorf("with a lifetime of %s: %q, %v; want %q", lifetime, l.Warnings, err, want)
		}
	}
	stop(t, q)
}

func TestMySQLLimitsAreComparedWithTheServers(t *testing.T) {
	testkit.Slow(t)
	srv := testserver.MariaDB(t, "--max-connections=40", "--wait-timeout=30")
	p, _ := mysqlFor(t, srv, sqlpool.MySQLConfig{MaxOpen: 19, Instances: 2, KeepAlive: time.Minute})
	l, err := p.Limits(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if l.MaxConnections != 40 || l.Demand != 60 || l.IdleTimeout != 30*time.Second || l.OnServer < 1 || len(l.Warnings) != 2 {
		t.Errorf("Limits = %+v", l)
	}
	stop(t, p)
}

// A Config without a KeepAlive gets one that the server allows, and keeps it over a Reload. So idle
// connections outlive the server's own time-out.
func TestKeepAliveIsChosenBelowTheServersTimeout(t *testing.T) {
	testkit.Slow(t)
	pg, onPG := pgFor(t, testserver.Postgres(t, "idle_session_timeout=2000"), sqlpool.PostgresConfig{MaxOpen: 3, MinIdle: 2, Logger: quiet()})
	my, onMySQL := mysqlFor(t, testserver.MariaDB(t, "--wait-timeout=2"), sqlpool.MySQLConfig{MaxOpen: 3, MinIdle: 2, Logger: quiet()})
	pools := []interface {
		Start(context.Context) error
		Settings() []slog.Attr
		Stats() poolkeeper.Stats
	}{pg, my}
	for _, p := range pools {
		if err := p.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := setting(p.Settings(), "keep_alive"); got != "1s" {
			t.Errorf("KeepAlive is %s", got)
		}
		eventually(t, "MinIdle is there", func() bool { return p.Stats().Open == 2 })
	}
	<-time.After(4 * time.Second) // beyond the servers' time-outs, which cannot be hurried
	for _, p := range pools {
		if st := p.Stats(); st.Open != 2 || st.Dials != 2 {
			t.Errorf("%d open after %d dials, want the 2 of before", st.Open, st.Dials)
		}
	}
	if a, b := onPG(), onMySQL(); a < 2 || b < 2 { // the check's own connection may be gone
		t.Errorf("%d on PostgreSQL, %d on MariaDB; want the 2 of before", a, b)
	}
	cfg := sqlpool.PostgresConfig{MaxOpen: 3, MinIdle: 1, Logger: quiet(), URL: pg.Pool().Config().ConnString()}
	if err := pg.Reload(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if got := setting(pg.Settings(), "keep_alive"); got != "1s" {
		t.Errorf("after a Reload KeepAlive is %s", got)
	}
	stop(t, pg)
	stop(t, my)
}

func setting(all []slog.Attr, key string) string {
	for _, a := range all {
		if a.Key == key {
			return a.Value.String()
		}
	}
	return "missing"
}

// A Reload that asks for more than the server grants is warned of, as Start is; one that does not
// concern them is not.
func TestReloadComparesTheLimitsAgain(t *testing.T) {
	srv := testserver.Postgres(t, "max_connections=30", "superuser_reserved_connections=3")
	log, logged := logTo()
	cfg := sqlpool.PostgresConfig{URL: srv.URL(), MaxOpen: 3, MaxOpenCeiling: 9, Instances: 3, Logger: log}
	p, err := sqlpool.NewPostgres(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	cfg.MaxIdleTime = time.Minute
	if err := p.Reload(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(logged(), "kind=limits") {
		t.Errorf("warned of limits that fit:\n%s", logged())
	}
	cfg.MaxOpen = 9
	if err := p.Reload(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	wantLine(t, logged(), "kind=limits", "level=WARN", "40 in all; the server grants 30", "demand=40", "granted=30", "on_server=")
	stop(t, p)
}

// wantLine checks that one line of a log has all of parts.
func wantLine(t *testing.T, log string, parts ...string) {
	t.Helper()
	for line := range strings.Lines(log) {
		if !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(line, p) }) {
			return
		}
	}
	t.Errorf("no line with %q in\n%s", parts, log)
}

func TestLimitsThatFitWarnOfNothing(t *testing.T) {
	p, _ := startPG(t, sqlpool.PostgresConfig{MaxOpen: 5})
	l, err := p.Limits(t.Context())
	if err != nil || len(l.Warnings) != 0 {
		t.Errorf("%v, warnings %v", err, l.Warnings)
	}
	stop(t, p)
}

func TestLimitsOfUnknownDriversAreUnsupported(t *testing.T) {
	p := fakePool(t, newFakeServer(), sqlpool.DBConfig{})
	defer stop(t, p)
	if _, err := p.Limits(context.Background()); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Limits: %v", err)
	}
}
