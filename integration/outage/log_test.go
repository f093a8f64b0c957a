package outage_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/testkit"
	"github.com/poolkeeper/poolkeeper/internal/testserver"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/sqlpool"
)

// line is what a log line says to an operator who counts.
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

// PostgreSQL is killed under load and comes back. An operator gets one warning of each kind, and one line when it is over.
// With POOLKEEPER_MEASURE the outage takes 17 s, and the log is printed: it is the one of docs/operations.md.
func TestOneOutageIsOneLineOfEachKind(t *testing.T) {
	srv := testserver.Postgres(t)
	var out testkit.Log
	log := slog.New(slog.NewJSONHandler(&out, nil))
	orders, err := sqlpool.NewPostgres(sqlpool.Config{URL: srv.URL(), MaxOpen: 10, MinIdle: 2, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	reg := lifecycle.New(lifecycle.Config{Logger: log})
	reg.Add("orders", orders)
	if err := reg.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	traffic := load(t, func(ctx context.Context) error {
		_, err := orders.Pool().Exec(ctx, "select 1")
		return err
	})
	testkit.Eventually(t, "there is traffic", func() bool { return orders.Stats().Use.Count > 100 })

	srv.Kill(t)
	testkit.Eventually(t, "pool and check say that the server is down", func() bool {
		got := lines(t, out.String())
		return got[line{"WARN", "pool orders", "down"}] > 0 && got[line{"WARN", "check orders", "down"}] > 0
	})
	if testkit.Measuring() {
		sleep(14 * time.Second)
	} else {
		sleep(2 * time.Second)
	}
	srv.Restart(t)
	testkit.Eventually(t, "pool and check say that it is back", func() bool {
		got := lines(t, out.String())
		return got[line{"INFO", "pool orders", "up"}] > 0 && got[line{"INFO", "check orders", "up"}] > 0
	})
	sleep(time.Second) // for lines too many
	traffic.stop()
	if err := reg.Shutdown(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
	t.Logf("the log:\n%s", out.String())

	got := lines(t, out.String())
	for l, n := range got {
		if n != 1 {
			t.Errorf("%d lines %+v, want one", n, l)
		}
	}
	for _, want := range []line{
		{"WARN", "pool orders", "down"}, {"INFO", "pool orders", "up"},
		{"WARN", "check orders", "down"}, {"INFO", "check orders", "up"},
	} {
		if got[want] != 1 {
			t.Errorf("%d lines %+v, want one", got[want], want)
		}
	}
	if strings.Contains(out.String(), `"level":"ERROR"`) {
		t.Error("an outage is no error of the service")
	}
}

// A failover leaves the service on a server that takes no writes.
func TestAReadOnlyServerIsOneWarning(t *testing.T) {
	srv := testserver.Postgres(t)
	var out testkit.Log
	log := slog.New(slog.NewJSONHandler(&out, nil))
	orders, err := sqlpool.NewPostgres(sqlpool.Config{URL: srv.URL(), MaxOpen: 5, Logger: log, Name: "orders"})
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
	cancel context.CancelFunc
	wg     sync.WaitGroup
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
				_ = call(bounded)
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
