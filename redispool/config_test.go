package redispool_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/test/testcerts"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/redispool"
)

func TestValidateReportsEveryFaultAtOnce(t *testing.T) {
	err := redispool.Config{
		Options: &redis.UniversalOptions{
			Addrs: []string{"a:1", "b:1"}, DB: 3, MaxIdleConns: 1, MaxActiveConns: 1, PipelinePoolSize: 5,
			ClientSideCacheConfig: &redis.ClientSideCacheConfig{}, MaxRetries: -2, MinRetryBackoff: -5, ReadTimeout: -2,
			Dialer: func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no") },
		},
		MaxOpen: -1, MaxOpenCeiling: -1, FileInterval: -2, MaxIdleTime: -2, MaxLifetime: -2, KeepAlive: -2, AcquireTimeout: -2, WriteTimeout: -2,
		LeakThreshold: -2, EvictionInterval: -1, DialTimeout: -1, LifetimeJitter: 2, Start: 7, Instances: -1,
		TLS: &tls.Config{},
	}.Validate()
	if err == nil {
		t.Fatal("no fault found")
	}
	for _, want := range []string{
		"MaxOpen is", "MaxOpenCeiling is", "FileInterval is", "MaxIdleTime", "MaxLifetime", "KeepAlive", "AcquireTimeout", "WriteTimeout", "LeakThreshold",
		"EvictionInterval", "DialTimeout", "LifetimeJitter", "Start is", "Instances",
		"MaxIdleConns", "MaxActiveConns", "pool for pipelines", "client-side caching", "MaxRetries", "RetryBackoff", "ReadTimeout",
		"a Cluster has only database 0", "Options.Dialer",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not among the faults", want)
		}
	}
	if _, nerr := redispool.New(redispool.Config{}); nerr == nil || !strings.Contains(nerr.Error(), "neither URL nor Options") {
		t.Errorf("New of nothing: %v", nerr)
	}
	if verr := (redispool.Config{URL: "redis://h", Options: &redis.UniversalOptions{}}).Validate(); verr == nil {
		t.Error("URL and Options together were accepted")
	}
	if verr := (redispool.Config{URL: "redis://h", MaxOpen: 2, MinIdle: 3}).Validate(); verr == nil {
		t.Error("MinIdle above MaxOpen was accepted")
	}
	if verr := (redispool.Config{URL: "redis://h", MaxOpen: 5, MaxOpenCeiling: 4}).Validate(); verr == nil ||
		!strings.Contains(verr.Error(), "MaxOpenCeiling is 4; it must be 0 (MaxOpen) or from MaxOpen, 5, to 65535") {
		t.Errorf("a ceiling below MaxOpen: %v", verr)
	}
	for _, o := range []redis.UniversalOptions{
		{MasterName: "m", Addrs: []string{"s:1"}, RouteRandomly: true},
		{MasterName: "m"},
		{IsClusterMode: true},
	} {
		if verr := (redispool.Config{Options: &o}).Validate(); verr == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
}

// settings are Settings as text.
func settings(p *redispool.Pool) map[string]string {
	out := map[string]string{}
	for _, a := range p.Settings() {
		out[a.Key] = a.Value.String()
	}
	return out
}

func TestURLForms(t *testing.T) {
	for url, want := range map[string]map[string]string{
		"redis://localhost":                                   {"kind": "node", "addresses": "localhost:6379", "database": "0", "tls": "false"},
		"redis://u:p@h:7000/3":                                {"kind": "node", "addresses": "h:7000", "database": "3"},
		"rediss://h:7000":                                     {"kind": "node", "tls": "true"},
		"unix:///tmp/r.sock?db=2":                             {"kind": "node", "addresses": "/tmp/r.sock", "database": "2"},
		"redis://h:26379/1?master_name=m&addr=i:26379":        {"kind": "sentinel", "addresses": "h:26379,i:26379", "master": "m", "database": "1"},
		"redis+sentinel://h?master_name=m":                    {"kind": "sentinel", "master": "m"},
		"rediss+sentinel://h?master_name=m":                   {"kind": "sentinel", "tls": "true"},
		"redis+cluster://h:7000":                              {"kind": "cluster", "addresses": "h:7000"},
		"redis://h:7000?addr=i:7000":                          {"kind": "cluster", "addresses": "h:7000,i:7000"},
		"rediss+cluster://h:7000":                             {"kind": "cluster", "tls": "true"},
		"redis://h?pool_size=7&min_idle_conns=2":              {"max_open": "7", "min_idle": "2"},
		"redis://h?conn_max_idle_time=90s":                    {"max_idle_time": "1m30s"},
		"redis://h?conn_max_idle_time=-1":                     {"max_idle_time": "off"},
		"redis://h?conn_max_lifetime=1h":                      {"max_lifetime": "1h0m0s"},
		"redis://h?pool_timeout=2s&read_timeout=-1":           {"acquire_timeout": "2s", "read_timeout": "off", "write_timeout": "off"},
		"redis://h?dial_timeout=1&read_timeout=7s":            {"dial_timeout": "1s", "read_timeout": "7s", "write_timeout": "7s"},
		"redis://h?max_retries=-1":                            {"max_attempts": "1"},
		"redis+cluster://h?max_redirects=5":                   {"max_attempts": "6"},
		"redis://h?write_timeout=100ms&pipeline_pool_size=-1": {"write_timeout": "100ms", "read_timeout": "3s"},
	} {
		p, err := redispool.New(redispool.Config{URL: url})
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		got := settings(p)
		for k, v := range want {
			if got[k] != v {
				t.Errorf("%s: %s is %q, want %q", url, k, got[k], v)
			}
		}
		if err := p.Abort(); err != nil {
			t.Error(err)
		}
	}
}

func TestConfigCountsMoreThanURL(t *testing.T) {
	p := newPool(t, redispool.Config{
		URL: "redis://h?pool_size=7&min_idle_conns=2&read_timeout=9s", MaxOpen: 5, MinIdle: 1, ReadTimeout: time.Second,
	})
	got := settings(p)
	if got["max_open"] != "5" || got["min_idle"] != "1" || got["read_timeout"] != "1s" {
		t.Errorf("%v", got)
	}
}

func TestDefaults(t *testing.T) {
	p := newPool(t, redispool.Config{URL: "redis://h"})
	got := settings(p)
	for k, v := range map[string]string{
		"min_idle": "0", "max_idle_time": "5m0s", "max_lifetime": "off", "lifetime_jitter": "0.1", "keep_alive": "2m0s",
		"acquire_timeout": "5s", "dial_timeout": "5s", "read_timeout": "3s", "write_timeout": "3s", "max_attempts": "4",
		"leak_threshold": "5m0s", "disable_leak_stacks": "false", "start": "StartFailFast", "tls": "false", "credentials_given": "false", "instances": "1",
	} {
		if got[k] != v {
			t.Errorf("%s is %q, want %q", k, got[k], v)
		}
	}
	if p.Stats().Max < redispool.DefaultMaxOpenPerCPU {
		t.Errorf("Max is %d", p.Stats().Max)
	}
}

func TestFaultyURLs(t *testing.T) {
	for url, want := range map[string]string{
		"http://h":                    "unknown scheme",
		"redis+nonsense://h":          "unknown scheme",
		"redis+ring://h":              "a Ring is not supported; give each shard a Pool of its own",
		"redis+sentinel://h":          "master_name",
		"redis://h/abc":               "the value of database is not valid",
		"redis://h/0/1":               "the path is to be the number",
		"redis+cluster://h/1":         "a Cluster has no databases",
		"redis://h?pool_size=many":    "the value of pool_size is not valid",
		"redis://h?read_timeout=soon": "the value of read_timeout is not valid",
		"redis://h?no_such_thing=1":   "unknown parameter no_such_thing",
		"unix://":                     "needs the path of a socket",
		"redis://h?addr=nohost":       "each addr is to be host:port",
		"redis://h?master_name=m&use_disconnected_replicas=true": "unknown parameter use_disconnected_replicas",
		"redis://h?max_idle_conns=3":                             "MaxIdleConns",
		"redis://h?pipeline_pool_size=3":                         "pool for pipelines",
		"://":                                                    "cannot be parsed",
	} {
		err := redispool.Config{URL: url}.Validate()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want it to say %q", url, err, want)
		}
	}
}

// No part of a password gets into an error or into Settings, however the URL is malformed around it
// (INV-12).
func TestNoSecretGetsOut(t *testing.T) {
	const secret = "hunter2secret"
	for _, url := range []string{
		"redis://user:" + secret + "@h:6379/0",
		"redis://user:" + secret + "@h:6379/abc",
		"redis://user:" + secret + "@h:port/0",
		"redis://user:a/" + secret + "@h:6379/0",
		"redis://user:1/" + secret + "@h:6379/0",
		"redis://:1?" + secret + "=x@h:6379/0",
		"redis://:1#" + secret + "@h:6379/0",
		"redis://user:%zz" + secret + "@h:6379/0",
		"redis://user:" + secret + "@h:6379/0?pool_size=x",
		"redis://user:" + secret + "@h:6379/0?nonsense=1",
		"redis://h:6379/" + secret,
		"redis://h:6379/0/" + secret,
		"redis://h?master_name=m&password=" + secret + "&db=x",
		secret + "://h",
		"redis://" + secret + "@@h",
		"redis://user:[" + secret + "@h",
		"unix://user:" + secret + "@/tmp/x.sock?db=x",
		"redis+cluster://user:" + secret + "@h/1",
		"redis+sentinel://user:" + secret + "@h/1",
	} {
		cfg := redispool.Config{URL: url, Logger: silent()}
		p, err := redispool.New(cfg)
		if err != nil {
			if strings.Contains(err.Error(), secret) && !strings.HasPrefix(url, secret) {
				t.Errorf("%s: the error shows the secret: %v", url, err)
			}
			continue
		}
		if text := fmt.Sprint(p.Settings()); strings.Contains(text, secret) {
			t.Errorf("%s: Settings show the secret: %s", url, text)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		for what, e := range map[string]error{
			"start": p.Start(ctx), "check": p.Check(ctx), "command": p.Client().Ping(ctx).Err(), "abort": p.Abort(),
		} {
			if e != nil && strings.Contains(e.Error(), secret) {
				t.Errorf("%s: %s shows the secret: %v", url, what, e)
			}
		}
		cancel()
	}
}

// FuzzURL puts a secret where a password belongs, among whatever the fuzzer makes of the rest of
// the password.
func FuzzURL(f *testing.F) {
	f.Add("", "", "0?pool_size=3")
	f.Add("a/", "?x=1", "1")
	f.Add("12?", "#", "")
	f.Add("%zz", ":5", "0?read_timeout=x")
	f.Add("]", "[", "0?addr=i:1&master_name=")
	f.Fuzz(func(t *testing.T, before, after, tail string) {
		const secret = "hunter2secret"
		for _, scheme := range []string{"redis", "rediss", "unix", "redis+sentinel", "redis+cluster"} {
			url := scheme + "://user:" + before + secret + after + "@h:6379/" + tail
			if err := (redispool.Config{URL: url}).Validate(); err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("%q: the error shows the secret: %v", url, err)
			}
		}
	})
}

func TestOptionsAreCopied(t *testing.T) {
	o := &redis.UniversalOptions{Addrs: []string{mini(t).Addr()}}
	p := started(t, redispool.Config{Options: o, MinIdle: 1})
	if o.PoolSize != 0 || o.PipelinePoolSize != 0 {
		t.Errorf("the caller's options were changed: %+v", o)
	}
	o.Addrs[0] = "nowhere:1"
	if err := p.Client().Ping(t.Context()).Err(); err != nil {
		t.Error(err)
	}
}

func TestTLSByURL(t *testing.T) {
	dir := t.TempDir()
	cert, key := testcerts.New(t).Leaf(t, "127.0.0.1")
	write(t, dir+"/crt", cert)
	write(t, dir+"/key", key)
	secure := freeAddr(t)
	_, port, err := net.SplitHostPort(secure)
	if err != nil {
		t.Fatal(err)
	}
	testserver.Redis(t, "--tls-port", port, "--tls-auth-clients", "no", "--tls-cert-file", dir+"/crt", "--tls-key-file", dir+"/key")
	p := started(t, redispool.Config{URL: "rediss://" + secure + "/1?skip_verify=true", MinIdle: 1})
	if serr := p.Client().Set(t.Context(), "a", 1, 0).Err(); serr != nil {
		t.Error(serr)
	}
	changes, err := p.Plan(redispool.Config{URL: "rediss://" + secure + "/1?skip_verify=true", MinIdle: 2, Logger: silent()})
	if err != nil || slices.ContainsFunc(changes, func(c poolkeeper.Change) bool { return c.Field == "URL" || c.Field == "TLS" }) {
		t.Errorf("the same URL is planned as %v, %v", changes, err)
	}
	changes, err = p.Plan(redispool.Config{URL: "rediss://" + secure + "/1", MinIdle: 1, Logger: silent()})
	if err != nil || !slices.ContainsFunc(changes, func(c poolkeeper.Change) bool { return c.Field == "URL" }) {
		t.Errorf("one that verifies is planned as %v, %v", changes, err)
	}
	strict := newPool(t, redispool.Config{URL: "rediss://" + secure})
	if err := strict.Start(within(t, patience)); health.Classify(err).Kind != health.KindTLS {
		t.Errorf("a certificate of nobody's: %v", err)
	}
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.sock")
	testserver.Redis(t, "--unixsocket", path)
	p := started(t, redispool.Config{URL: "unix://" + path + "?db=1", MinIdle: 1})
	if err := p.Client().Set(t.Context(), "a", 1, 0).Err(); err != nil {
		t.Error(err)
	}
	if err := (redispool.Config{URL: "unix://" + path, TLS: &tls.Config{}}).Validate(); err == nil {
		t.Error("TLS on a local socket was accepted")
	}
	if err := p.Stop(within(t, patience)); err != nil {
		t.Error(err)
	}
}

func TestCredentialsAreAskedForEachConnection(t *testing.T) {
	m := mini(t)
	m.RequireUserAuth("app", "secret-1")
	password, asked := "secret-1", 0
	p := started(t, redispool.Config{
		URL: "redis://ignored:wrong@" + m.Addr(), KeepAlive: poolkeeper.Off,
		Credentials: func(context.Context) (string, string, error) {
			asked++
			return "app", password, nil
		},
	})
	if err := p.Client().Set(t.Context(), "a", 1, 0).Err(); err != nil {
		t.Fatal(err)
	}
	if asked != 2 { // the check's connection and the pool's
		t.Errorf("asked %d times", asked)
	}
	password = "nonsense"
	c := single(t, p).Conn() // takes the one that is open
	if err := c.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	err := p.Client().Ping(t.Context()).Err() // dials
	if k := redispool.Classify(err).Kind; k != health.KindAuthentication {
		t.Errorf("with a wrong password: %v (%s)", err, k)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func TestTLS(t *testing.T) {
	ca := testcerts.New(t)
	m, err := miniredis.RunTLS(&tls.Config{Certificates: []tls.Certificate{ca.Pair(t, "127.0.0.1")}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	p := started(t, redispool.Config{
		URL: "redis://" + m.Addr(), TLS: &tls.Config{RootCAs: ca.Pool()}, // ServerName comes from the address
		MinIdle: 3, MaxIdleTime: 200 * time.Millisecond, KeepAlive: 50 * time.Millisecond, MaxLifetime: 300 * time.Millisecond,
		EvictionInterval: 10 * time.Millisecond,
	})
	load := lightTraffic(t, p.Client(), 3)
	// A condemned connection is taken away at its checkout, below which go-redis must not look into
	// the encrypted stream.
	eventually(t, "lifetimes end under traffic", func() bool { return p.Stats().Evicted["lifetime"] > 10 })
	load.end()
	if s := p.Stats(); load.failed.Load() > 0 || s.Evicted["dead"] > 0 {
		t.Errorf("%d commands failed, %v", load.failed.Load(), s.Evicted)
	}
	if err := p.Stop(within(t, patience)); err != nil {
		t.Error(err)
	}

	p = newPool(t, redispool.Config{URL: "rediss://" + m.Addr()})
	if err := p.Start(within(t, patience)); health.Classify(err).Kind != health.KindTLS {
		t.Errorf("an unknown authority: %v (%s)", err, health.Classify(err).Kind)
	}
}

func TestSetNameIsUsedEverywhere(t *testing.T) {
	m := mini(t)
	var out testkit.Log
	p := newPool(t, redispool.Config{URL: "redis://" + m.Addr(), Logger: out.Logger()})
	p.SetName("")
	p.SetName("sessions")
	if err := p.Stop(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{p.Start(t.Context()), p.Check(t.Context()), p.Client().Ping(t.Context()).Err()} {
		if err == nil || !strings.Contains(err.Error(), `"sessions"`) {
			t.Errorf("%v does not name the pool", err)
		}
	}
	if slog.AnyValue(p.Settings()).String() == "" {
		t.Error("no settings")
	}
}
