package tracing_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/XSAM/otelsql"
	"github.com/exaring/otelpgx"
	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/extra/redisotel/v9"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/redispool"
	"github.com/poolkeeper/poolkeeper/sqlpool"
)

// tracedRedis returns a pool whose client makes a span of each command, and of each dial.
func tracedRedis(url string, provider trace.TracerProvider) (*redispool.Pool, error) {
	pool, err := redispool.New(redispool.Config{URL: url, MaxOpen: 20})
	if err != nil {
		return nil, err
	}
	err = redisotel.InstrumentTracing(pool.Client(),
		redisotel.WithTracerProvider(provider), redisotel.WithDBStatement(false)) // or else values are in the spans
	return pool, err
}

// tracedPostgres returns a pool that makes a span of each statement, of each wait for a connection,
// and of each dial.
func tracedPostgres(url string, provider trace.TracerProvider) (*sqlpool.Postgres, error) {
	return sqlpool.NewPostgres(sqlpool.PostgresConfig{URL: url, MaxOpen: 20, Configure: func(native *pgxpool.Config) error {
		native.ConnConfig.Tracer = otelpgx.NewTracer(otelpgx.WithTracerProvider(provider))
		return nil
	}})
}

// tracedMySQL returns a pool over a driver that makes a span of each statement, and of each dial.
func tracedMySQL(dsn string, provider trace.TracerProvider) (*sqlpool.DB, error) {
	traced, ok := otelsql.WrapDriver(&mysql.MySQLDriver{}, otelsql.WithTracerProvider(provider)).(driver.DriverContext)
	if !ok {
		return nil, errors.New("the driver has no connectors")
	}
	connector, err := traced.OpenConnector(dsn)
	if err != nil {
		return nil, err
	}
	return sqlpool.NewDB(connector, sqlpool.DBConfig{MaxOpen: 20})
}

type checked interface {
	lifecycle.Component
	lifecycle.Checker
}

// traced runs use in a span, on a pool of a registry, and returns the names of the spans below it.
func traced(t *testing.T, provider *sdktrace.TracerProvider, spans *tracetest.InMemoryExporter, pool checked,
	use func(ctx context.Context) error,
) (names []string) {
	t.Helper()
	reg := lifecycle.New(lifecycle.Config{ShutdownTimeout: 10 * time.Second, Logger: slog.New(slog.DiscardHandler)})
	reg.Add("traced", pool)
	if err := reg.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, request := provider.Tracer("test").Start(t.Context(), "request")
	if err := use(ctx); err != nil {
		t.Error(err)
	}
	request.End()
	before := len(spans.GetSpans())
	if err := pool.Check(t.Context()); err != nil {
		t.Error(err)
	}
	if after := len(spans.GetSpans()); after != before {
		t.Errorf("a health check makes %d spans", after-before)
	}
	if err := reg.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	for _, s := range spans.GetSpans() {
		if s.Name != "request" && s.SpanContext.TraceID() == request.SpanContext().TraceID() {
			names = append(names, s.Name)
		}
	}
	return names
}

func recorded(t *testing.T) (*sdktrace.TracerProvider, *tracetest.InMemoryExporter) {
	t.Helper()
	spans := tracetest.NewInMemoryExporter()
	return sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans)), spans
}

func TestRedisotelTracesCommandsOfAManagedClient(t *testing.T) {
	provider, spans := recorded(t)
	pool, err := tracedRedis(testserver.SharedRedis(t).URL(), provider)
	if err != nil {
		t.Fatal(err)
	}
	const value = "in-no-span"
	names := traced(t, provider, spans, pool, func(ctx context.Context) error {
		return pool.Client().Set(ctx, "key", value, time.Minute).Err()
	})
	if !slices.Contains(names, "set") {
		t.Errorf("no span of SET: %q", names)
	}
	for _, s := range spans.GetSpans() {
		for _, a := range s.Attributes {
			if strings.Contains(a.Value.String(), value) {
				t.Errorf("the span %s shows the value: %s", s.Name, a.Key)
			}
		}
	}
}

func TestOtelpgxTracesStatementsAndWaitsOfAManagedPool(t *testing.T) {
	provider, spans := recorded(t)
	pool, err := tracedPostgres(testserver.SharedPostgres(t).URL(), provider)
	if err != nil {
		t.Fatal(err)
	}
	names := traced(t, provider, spans, pool, func(ctx context.Context) error {
		_, err := pool.Pool().Exec(ctx, "SELECT 1")
		return err
	})
	for _, name := range []string{"SELECT", "pool.acquire"} {
		if !slices.Contains(names, name) {
			t.Errorf("no span %q: %q", name, names)
		}
	}
}

func TestOtelsqlTracesStatementsOfAManagedDB(t *testing.T) {
	provider, spans := recorded(t)
	pool, err := tracedMySQL("root@tcp("+testserver.SharedMariaDB(t).Addr()+")/", provider)
	if err != nil {
		t.Fatal(err)
	}
	names := traced(t, provider, spans, pool, func(ctx context.Context) error {
		_, err := pool.DB().ExecContext(ctx, "DO 1")
		return err
	})
	for _, name := range []string{"sql.conn.exec", "sql.connector.connect"} {
		if !slices.Contains(names, name) {
			t.Errorf("no span %q: %q", name, names)
		}
	}
}
