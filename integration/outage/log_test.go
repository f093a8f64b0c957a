package outage_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/redispool"
	"github.com/poolkeeper/poolkeeper/sqlpool"
)

// line is what a log line says to an operator that counts lines.
type line struct{ level, about, kind string }

// lines returns the log's lines in order, and how often each came.
func lines(t *testing.T, out string) map[line]int {
	t.Helper()
	got := map[line]int{}
	for text := range strings.Lines(out) {
		var l struct{ Level, Pool, Check, Component, Kind, Msg string }
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		switch {
		case l.Pool != "":
			got[line{l.Level, "pool " + l.Pool, l.Kind}]++
		case l.Check != "":
			got[line{l.Level, "check " + l.Check, l.Kind}]++
		default:
			got[line{l.Level, l.Component, l.Msg}]++
		}
	}
	return got
}

// A server is killed under load and comes back. An operator gets one warning of each kind, and one
// line when it is over. With POOLKEEPER_MEASURE the outage takes 17 s, and PostgreSQL's log is the
// one of docs/operations.md.
func TestOneOutageIsOneLineOfEachKind(t *testing.T) {
	testkit.Slow(t)
	for name, start := range map[string]func(*testing.T, *slog.Logger) patient{"orders": postgresPatient, "cache": redisPatient} {
		t.Run(name, func(t *testing.T) {
			var out testkit.Log
			log := slog.New(slog.NewJSONHandler(&out, nil))
			p := start(t, log)
			reg := lifecycle.New(lifecycle.Config{Logger: log})
			reg.Add(name, p.pool)
			if err := reg.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			said := func(level, kind string) bool {
				got := lines(t, out.String())
				return got[line{level, "pool " + name, kind}] == 1 && got[line{level, "check " + name, kind}] == 1
			}
			traffic := load(t, p.call)
			testkit.Eventually(t, "there is traffic", func() bool { return traffic.succeeded.Load() > 100 })
			p.server.Kill(t)
			testkit.Eventually(t, "pool and check say that the server is down", func() bool { return said("WARN", "down") })
			if testkit.Measuring() {
				sleep(14 * time.Second)
			} else {
				sleep(2 * time.Second)
			}
			p.server.Restart(t)
			testkit.Eventually(t, "pool and check say that it is back", func() bool { return said("INFO", "up") })
			sleep(time.Second) // for lines too many
			traffic.stop()
			if err := reg.Shutdown(context.WithoutCancel(t.Context())); err != nil {
				t.Error(err)
			}
			t.Logf("the log:\n%s", out.String())
			for l, n := range lines(t, out.String()) {
				if l.level != "INFO" && n != 1 || l.level == "ERROR" {
					t.Errorf("%d lines %+v, want one, and no error: an outage is none of the service", n, l)
				}
			}
			if !said("WARN", "down") || !said("INFO", "up") {
				t.Error("pool and check do not each say once that the server is down, and once that it is back")
			}
		})
	}
}

// patient is a pool and its server.
type patient struct {
	server *testserver.Server
	pool   lifecycle.Component
	call   func(context.Context) error
}

func postgresPatient(t *testing.T, log *slog.Logger) patient {
	t.Helper()
	srv := testserver.Postgres(t)
	p, err := sqlpool.NewPostgres(sqlpool.PostgresConfig{URL: srv.URL(), MaxOpen: 10, MinIdle: 2, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	return patient{srv, p, func(ctx context.Context) error {
		_, err := p.Pool().Exec(ctx, "select 1")
		return err
	}}
}

func redisPatient(t *testing.T, log *slog.Logger) patient {
	t.Helper()
	srv := testserver.Redis(t)
	p, err := redispool.New(redispool.Config{URL: srv.URL(), MaxOpen: 10, MinIdle: 2, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	return patient{srv, p, func(ctx context.Context) error { return p.Client().Incr(ctx, "n").Err() }}
}

// A failover leaves the service on a server that takes no writes.
func TestAReadOnlyServerIsOneWarning(t *testing.T) {
	testkit.Slow(t)
	srv := testserver.Postgres(t)
	var out testkit.Log
	log := slog.New(slog.NewJSONHandler(&out, nil))
	orders, err := sqlpool.NewPostgres(sqlpool.PostgresConfig{URL: srv.URL(), MaxOpen: 5, Logger: log, Name: "orders"})
	if err != nil {
		t.Fatal(err)
	}
	if err := orders.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	exec := func(sql string) error {
		_, err := orders.Pool().Exec(t.Context(), sql)
		return err
	}
	if err := exec("create table notes (text text)"); err != nil {
		t.Fatal(err)
	}
	readOnly := func(on string) {
		for _, sql := range []string{"alter system set default_transaction_read_only = " + on, "select pg_reload_conf()"} {
			if err := exec(sql); err != nil {
				t.Fatal(err)
			}
		}
	}
	readOnly("on")
	traffic := load(t, func(ctx context.Context) error {
		_, err := orders.Pool().Exec(ctx, "insert into notes values ('x')")
		return err
	})
	testkit.Eventually(t, "connections are replaced", func() bool { return lines(t, out.String())[line{"WARN", "pool orders", "reset"}] > 0 })
	sleep(4 * time.Second) // they are replaced again, with growing pauses
	readOnly("off")
	testkit.Eventually(t, "writes succeed", func() bool { return exec("insert into notes values ('y')") == nil })
	traffic.stop()
	if err := orders.Stop(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
	t.Logf("the log:\n%s", out.String())
	for l, n := range lines(t, out.String()) {
		if l.level != "INFO" && (n != 1 || l.kind != "reset") {
			t.Errorf("%d lines %+v, want one about connections that are replaced", n, l)
		}
	}
}

// running is load that goes on until it is stopped.
type running struct {
	cancel    context.CancelFunc
	wg        sync.WaitGroup
	succeeded atomic.Int64 // calls
}

// load has 50 callers call, each some 20 times a second and with 200 ms to wait.
func load(t *testing.T, call func(context.Context) error) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	r := &running{cancel: cancel}
	t.Cleanup(r.stop)
	for range 50 {
		r.wg.Go(func() {
			for ctx.Err() == nil {
				bounded, done := context.WithTimeout(ctx, 200*time.Millisecond)
				if call(bounded) == nil {
					r.succeeded.Add(1)
				}
				done()
				sleep(50 * time.Millisecond)
			}
		})
	}
	return r
}

func (r *running) stop() {
	r.cancel()
	r.wg.Wait()
}
