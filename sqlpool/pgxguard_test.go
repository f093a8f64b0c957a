package sqlpool_test

import (
	"context"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/sqlpool"
	"github.com/poolkeeper/poolkeeper/sqlpool/sqlpooltest"
)

// hostile is the code of a service. Each part of it calls fault, while that is set.
type hostile struct {
	fault atomic.Pointer[func()]
	part  string // which one does
}

func (h *hostile) may(part string) {
	if f := h.fault.Load(); f != nil && part == h.part {
		(*f)()
	}
}

// hooks puts the service's functions into pgxpool's configuration.
func (h *hostile) hooks(c *pgxpool.Config) {
	conf := c.ConnConfig
	dial, onError := conf.DialFunc, conf.OnPgError
	conf.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		h.may("DialFunc")
		return dial(ctx, network, addr)
	}
	conf.LookupFunc = func(context.Context, string) ([]string, error) {
		h.may("LookupFunc")
		return []string{"127.0.0.1"}, nil
	}
	conf.AfterNetConnect = func(_ context.Context, _ *pgconn.Config, c net.Conn) (net.Conn, error) {
		h.may("AfterNetConnect")
		return c, nil
	}
	conf.ValidateConnect = func(context.Context, *pgconn.PgConn) error { h.may("ValidateConnect"); return nil }
	conf.AfterConnect = func(context.Context, *pgconn.PgConn) error { h.may("pgconn AfterConnect"); return nil }
	conf.OnNotice = func(*pgconn.PgConn, *pgconn.Notice) { h.may("OnNotice") }
	conf.OnPgError = func(c *pgconn.PgConn, e *pgconn.PgError) bool { h.may("OnPgError"); return onError(c, e) }
	conf.Tracer = hostileTracer{h}
	c.AfterConnect = func(context.Context, *pgx.Conn) error { h.may("AfterConnect"); return nil }
	c.BeforeClose = func(*pgx.Conn) { h.may("BeforeClose") }
}

func (h *hostile) credentials(context.Context) (user, password string, err error) {
	h.may("Credentials")
	return "", "p", nil
}

func (h *hostile) Observe(err error) {
	if err != nil {
		h.may("Observer")
	}
}

// hostileTracer is a tracer of dials.
type hostileTracer struct{ service *hostile }

func (t hostileTracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}
func (t hostileTracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (t hostileTracer) TraceConnectStart(ctx context.Context, _ pgx.TraceConnectStartData) context.Context {
	t.service.may("TraceConnectStart")
	return ctx
}

func (t hostileTracer) TraceConnectEnd(context.Context, pgx.TraceConnectEndData) {
	t.service.may("TraceConnectEnd")
}

// The process lives, no place is lost, Stop ends, and the event has the stack.
func TestAHookThatPanicsIsAnEventAndNoMore(t *testing.T) {
	for _, part := range []string{
		"DialFunc", "LookupFunc", "AfterNetConnect", "ValidateConnect", "pgconn AfterConnect", "OnPgError", "AfterConnect",
		"BeforeClose", "TraceConnectStart", "TraceConnectEnd", "Credentials", "Observer",
	} {
		for how, f := range map[string]func(){"panic": func() { panic("service") }, "goexit": runtime.Goexit} {
			t.Run(part+" "+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { survivesFault(t, part, how, f) })
			})
		}
	}
}

func survivesFault(t *testing.T, part, how string, f func()) {
	t.Helper()
	var out testkit.Log
	h := &hostile{part: part}
	srv := sqlpooltest.ServePostgresInMemory(t)
	p, err := sqlpool.NewPostgres(sqlpool.PostgresConfig{
		URL: srv.URL(), MaxOpen: 3, MinIdle: 2, KeepAlive: time.Second, MaxLifetime: 20 * time.Second, Credentials: h.credentials,
		AcquireTimeout: 5 * time.Second, FailFastAfter: poolkeeper.Off, Logger: out.Logger(),
		Configure: func(c *pgxpool.Config) error {
			c.ConnConfig.Host, c.ConnConfig.DialFunc = "db", srv.Dial
			h.hooks(c)
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	p.ObserveWith(h)
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.fault.Store(&f)
	for i := range 20 {
		switch i % 5 {
		case 1:
			srv.FailQueries("57P01", "on purpose")
		case 2:
			srv.Heal()
		case 4:
			srv.Terminate()
		}
		done := make(chan struct{})
		// Owner: this test. It ends with its query; a Goexit may end it too.
		go func() {
			defer close(done)
			_, _ = p.Pool().Exec(t.Context(), "select 1")
		}()
		<-done
		_ = p.Check(t.Context())
		time.Sleep(5 * time.Second)
	}
	h.fault.Store(nil)
	srv.Heal()
	time.Sleep(time.Minute)
	var held []*pgxpool.Conn
	for range 3 {
		c, err := p.Pool().Acquire(t.Context())
		if err != nil {
			t.Fatalf("a place is lost: %v", err)
		}
		held = append(held, c)
	}
	for _, c := range held {
		c.Release()
	}
	stop(t, p)
	wasTold(t, out.String(), how)
}

// wasTold checks that there was an event, and of a panic with its stack.
func wasTold(t *testing.T, lines, how string) {
	t.Helper()
	if !strings.Contains(lines, "kind=panic") || how == "panic" && !strings.Contains(lines, "pgxguard_test.go") {
		t.Errorf("no event of the %s in\n%.3000s", how, lines)
	}
}

// pgconn asks the server to cancel a query on a goroutine of its own, by the service's DialFunc.
func TestADialFuncThatPanicsInACancelRequestDoesNotEndTheProcess(t *testing.T) {
	testkit.Slow(t)
	srv := testserver.Postgres(t)
	for how, f := range map[string]func(){"panic": func() { panic("service") }, "goexit": runtime.Goexit} {
		for part, query := range map[string]string{
			"DialFunc": "select pg_sleep(60)",
			"OnNotice": "do $$ begin raise notice 'told'; perform pg_sleep(60); end $$",
		} {
			t.Run(part+" "+how, func(t *testing.T) {
				var out testkit.Log
				h := &hostile{part: part}
				p, err := sqlpool.NewPostgres(sqlpool.PostgresConfig{
					URL: srv.URL(), MaxOpen: 1, Logger: out.Logger(), CloseGrace: time.Second,
					Configure: func(c *pgxpool.Config) error { h.hooks(c); return nil },
				})
				if err != nil {
					t.Fatal(err)
				}
				if err := p.Start(t.Context()); err != nil {
					t.Fatal(err)
				}
				if _, err := p.Pool().Exec(t.Context(), "select 1"); err != nil {
					t.Fatal(err)
				}
				h.fault.Store(&f)
				ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
				defer cancel()
				if _, err := p.Pool().Exec(ctx, query); err == nil {
					t.Error("the query has not been given up")
				}
				testkit.Eventually(t, "the event", func() bool { return strings.Contains(out.String(), "kind=panic") })
				h.fault.Store(nil)
				if _, err := p.Pool().Exec(t.Context(), "select 1"); err != nil {
					t.Errorf("the place is lost: %v", err)
				}
				stop(t, p)
				wasTold(t, out.String(), how)
			})
		}
	}
}

// panicking is a slog.Handler that fails.
type panicking struct{ slog.Handler }

func (panicking) Enabled(context.Context, slog.Level) bool  { return true }
func (panicking) Handle(context.Context, slog.Record) error { panic("handler") }

// The driver of MySQL writes to the service's log on goroutines of its own.
func TestALoggerThatPanicsDoesNotHarmTheDriver(t *testing.T) {
	sqlpool.DriverLog(slog.New(panicking{})).Print("packets.go: unexpected EOF")
}
