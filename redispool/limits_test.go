package redispool_test

import (
	"strings"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/redispool"
)

func TestLimitsAreComparedWithTheServers(t *testing.T) {
	srv := testserver.Redis(t, "--maxclients", "60", "--timeout", "90", "--tcp-keepalive", "0")
	var out testkit.Log
	p := started(t, redispool.Config{URL: srv.URL(), MaxOpen: 15, Instances: 3, Logger: out.Logger()})
	l, err := p.Limits(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if l.MaxConnections != 60 || l.PerInstance != 16 || l.Instances != 3 || l.Surge != 1 || l.Demand != 64 ||
		l.IdleTimeout != 90*time.Second || l.TCPKeepAlive != 0 || l.OnServer < 1 || l.Node != "" {
		t.Errorf("%+v", l)
	}
	for _, want := range []string{
		"3 instances, and 1 more in a rolling update, may open 16 connections each, 64 in all; the server grants 60",
		"silent for 1m30s, and KeepAlive is 2m0s: choose less",
		"tcp-keepalive is 0",
	} {
		if !strings.Contains(strings.Join(l.Warnings, "\n"), want) || !strings.Contains(out.String(), want) {
			t.Errorf("the warnings, or the log at Start, have no %q:\n%s\n%s", want, strings.Join(l.Warnings, "\n"), out.String())
		}
	}
}

// A Reload that asks for more than the server grants is warned of, as Start is; one that does not
// concern them is not.
func TestReloadComparesTheLimitsAgain(t *testing.T) {
	srv := testserver.Redis(t, "--maxclients", "60")
	var out testkit.Log
	cfg := redispool.Config{URL: srv.URL(), MaxOpen: 5, MaxOpenCeiling: 15, Instances: 3, Logger: out.Logger()}
	p := started(t, cfg)
	cfg.MaxIdleTime = time.Minute
	if err := p.Reload(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "kind=limits") {
		t.Errorf("warned of limits that fit:\n%s", out.String())
	}
	cfg.MaxOpen = 15
	if err := p.Reload(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	wantLine(t, out.String(), "kind=limits", "level=WARN", "64 in all; the server grants 60", "demand=64", "granted=60", "on_server=")
}

func TestLimitsThatFitAreQuiet(t *testing.T) {
	srv := testserver.Redis(t)
	var out testkit.Log
	p := started(t, redispool.Config{URL: srv.URL(), MaxOpen: 15, Instances: 10, Logger: out.Logger()})
	l, err := p.Limits(t.Context())
	if err != nil || len(l.Warnings) > 0 || l.MaxConnections == 0 {
		t.Errorf("%+v, %v", l, err)
	}
	if strings.Contains(out.String(), "WARN") {
		t.Errorf("logged:\n%s", out.String())
	}
}

func TestLimitsLeaveOutWhatMayNotBeAsked(t *testing.T) {
	srv := testserver.Redis(t, "--timeout", "1000")
	if err := admin(t, srv.Addr()).Do(t.Context(), "acl", "setuser", "app", "on", ">pw", "~*", "+@all", "-config").Err(); err != nil {
		t.Fatal(err)
	}
	p := started(t, redispool.Config{URL: "redis://app:pw@" + srv.Addr(), KeepAlive: poolkeeper.Off})
	l, err := p.Limits(t.Context())
	if err != nil || l.IdleTimeout != 0 || l.OnServer == 0 || len(l.Warnings) > 0 {
		t.Errorf("%+v, %v", l, err)
	}
	if err := p.Stop(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Limits(t.Context()); err == nil {
		t.Error("limits of a stopped pool")
	}
}

func TestClusterLimitsNameTheNode(t *testing.T) {
	k := newCluster(t, 2, 0)
	if err := k.looks[1].ConfigSet(t.Context(), "maxclients", "40").Err(); err != nil {
		t.Fatal(err)
	}
	p := started(t, redispool.Config{Options: k.options(), MaxOpen: 30, Instances: 4})
	l, err := p.Limits(t.Context())
	if err != nil || l.Node != k.nodes[1].Addr() || len(l.Warnings) != 1 || !strings.Contains(l.Warnings[0], l.Node) {
		t.Errorf("%+v, %v", l, err)
	}
}
