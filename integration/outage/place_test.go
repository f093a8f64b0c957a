package outage_test

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
)

// place is a server, and the network on the way to it.
type place struct {
	lib  library
	srv  *testserver.Server
	way  *testkit.Proxy
	hogs []func()
}

func newPlace(tb testing.TB, lib library) *place {
	tb.Helper()
	p := &place{lib: lib, srv: lib.server(tb, lib.args...)}
	p.way = testkit.NewProxy(tb, p.srv.Addr())
	tb.Cleanup(p.free)
	return p
}

// fault is a way for a server to be gone.
type fault struct {
	name  string
	first bool // it begins before the service opens its first connection
	begin func(tb testing.TB, p *place)
	end   func(tb testing.TB, p *place)
}

func faults() []fault {
	return []fault{
		{
			name:  "refuses",
			begin: func(tb testing.TB, p *place) { tb.Helper(); p.way.Refuse(tb, true); p.srv.Kill(tb) },
			end:   func(tb testing.TB, p *place) { tb.Helper(); p.srv.Restart(tb); p.way.Refuse(tb, false) },
		},
		{
			name:  "is silent",
			begin: func(_ testing.TB, p *place) { p.way.BlackHole(); p.way.Mute(true) },
			end:   func(_ testing.TB, p *place) { p.way.Point(p.srv.Addr()) },
		},
		{
			name: "is full", first: true,
			begin: func(tb testing.TB, p *place) { tb.Helper(); p.fill(tb) },
			end:   func(_ testing.TB, p *place) { p.free() },
		},
	}
}

// fill takes every connection that the server grants.
func (p *place) fill(tb testing.TB) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 30*time.Second)
	defer cancel()
	for {
		free, err := p.lib.hog(ctx, p.srv)
		if err != nil {
			if ctx.Err() != nil {
				tb.Fatal(err)
			}
			return
		}
		p.hogs = append(p.hogs, free)
	}
}

func (p *place) free() {
	for _, free := range p.hogs {
		free()
	}
	p.hogs = nil
}

func hogRedis(ctx context.Context, srv *testserver.Server) (func(), error) {
	c := redis.NewClient(&redis.Options{Addr: srv.Addr(), PoolSize: 1, MaxRetries: -1})
	if err := c.Ping(ctx).Err(); err != nil {
		_ = c.Close()
		return nil, err
	}
	return func() { _ = c.Close() }, nil
}

func hogPostgres(ctx context.Context, srv *testserver.Server) (func(), error) {
	c, err := pgx.Connect(ctx, srv.URL())
	if err != nil {
		return nil, err
	}
	return func() { _ = c.Close(context.WithoutCancel(ctx)) }, nil
}

func hogMariaDB(ctx context.Context, srv *testserver.Server) (func(), error) {
	db, err := sql.Open("mysql", srv.DSN())
	if err != nil {
		return nil, err
	}
	if err := db.PingContext(ctx); err != nil {
		_ = db.Close()
		return nil, err
	}
	return func() { _ = db.Close() }, nil
}
