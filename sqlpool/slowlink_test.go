package sqlpool_test

import (
	"context"
	"database/sql"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/sqlpool"
)

// remote is a pool behind a slow link.
type remote struct {
	pool interface {
		Start(context.Context) error
		Stop(context.Context) error
		DB() *sql.DB
		Stats() poolkeeper.Stats
	}
	kill  func(id int) // ends a session, without the link
	id    string       // the query for a session's id
	sleep string
}

// remotes makes a pool on each driver, behind a link with that round trip.
func remotes(t *testing.T, roundTrip time.Duration) map[string]func(*testing.T, sqlpool.MySQLConfig) remote {
	t.Helper()
	far := func(t *testing.T, srv *testserver.Server) *testkit.Proxy {
		t.Helper()
		px := testkit.NewProxy(t, srv.Addr())
		px.Delay(roundTrip)
		return px
	}
	return map[string]func(*testing.T, sqlpool.MySQLConfig) remote{
		"pgxpool": func(t *testing.T, cfg sqlpool.MySQLConfig) remote {
			t.Helper()
			srv := testserver.SharedPostgres(t)
			cfg.URL = strings.Replace(srv.URL(), srv.Addr(), far(t, srv).Addr(), 1)
			p, err := sqlpool.NewPostgres(like[sqlpool.PostgresConfig](cfg))
			if err != nil {
				t.Fatal(err)
			}
			direct, err := sql.Open("pgx", srv.URL())
			return remote{p, killer(t, direct, err, "select pg_terminate_backend($1)"), "select pg_backend_pid()", "select pg_sleep(20)"}
		},
		"mysql": func(t *testing.T, cfg sqlpool.MySQLConfig) remote {
			t.Helper()
			srv := testserver.SharedMariaDB(t)
			cfg.URL = strings.Replace(srv.DSN(), srv.Addr(), far(t, srv).Addr(), 1)
			p, err := sqlpool.NewMySQL(cfg)
			if err != nil {
				t.Fatal(err)
			}
			direct, err := sql.Open("mysql", srv.DSN()+"?interpolateParams=true")
			return remote{p, killer(t, direct, err, "kill ?"), "select connection_id()", "select sleep(20)"}
		},
	}
}

func killer(t *testing.T, direct *sql.DB, err error, query string) func(id int) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = direct.Close() })
	return func(id int) {
		t.Helper()
		if _, err := direct.ExecContext(t.Context(), query, id); err != nil {
			t.Error(err)
		}
	}
}

// hold takes n connections, and returns their sessions and how to give them back.
func (r remote) hold(t *testing.T, n int) (ids []int, conns []*sql.Conn) {
	t.Helper()
	for range n {
		c, err := r.pool.DB().Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var id int
		if err := c.QueryRowContext(t.Context(), r.id).Scan(&id); err != nil {
			t.Fatal(err)
		}
		ids, conns = append(ids, id), append(conns, c)
	}
	return ids, conns
}

// One of five sessions dies in use, and the others answer after a round trip of 300 ms.
func TestSlowLinkCondemnsNothing(t *testing.T) {
	t.Parallel()
	const others = 4
	for _, c := range []struct {
		name    string
		timeout time.Duration
		lost    int
	}{{"by default", 0, 0}, {"with a SuspectPing below the round trip", 100 * time.Millisecond, others}} {
		for driver, make := range remotes(t, 300*time.Millisecond) {
			t.Run(c.name+" on "+driver, func(t *testing.T) {
				t.Parallel()
				r := make(t, sqlpool.MySQLConfig{MaxOpen: others + 1, SuspectPing: c.timeout, KeepAlive: poolkeeper.Off, AcquireTimeout: 20 * time.Second, Logger: quiet()})
				if err := r.pool.Start(t.Context()); err != nil {
					t.Fatal(err)
				}
				defer stop(t, r.pool)
				ids, conns := r.hold(t, others+1)
				for _, conn := range conns[1:] {
					_ = conn.Close()
				}
				time.AfterFunc(100*time.Millisecond, func() { r.kill(ids[0]) })
				if _, err := conns[0].ExecContext(t.Context(), r.sleep); err == nil {
					t.Fatal("the session was not killed")
				}
				_ = conns[0].Close()
				after, conns := r.hold(t, others)
				for _, conn := range conns {
					_ = conn.Close()
				}
				replaced := 0
				for _, id := range after {
					if !slices.Contains(ids[1:], id) {
						replaced++
					}
				}
				if replaced != c.lost {
					t.Errorf("%d of %d sessions were replaced, want %d", replaced, others, c.lost)
				}
			})
		}
	}
}

// A login takes longer than a dial counts as young, and longer than any caller waits.
func TestConnectionIsOpenedOverASlowLink(t *testing.T) {
	t.Parallel()
	for driver, make := range remotes(t, 700*time.Millisecond) {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			r := make(t, sqlpool.MySQLConfig{MaxOpen: 1, FailFastAfter: poolkeeper.Off, Logger: quiet()})
			defer stop(t, r.pool)
			if err := r.pool.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			eventually(t, "a connection is open", func() bool {
				ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
				defer cancel()
				if c, err := r.pool.DB().Conn(ctx); err == nil {
					_ = c.Close()
				}
				return r.pool.Stats().Open == 1
			})
		})
	}
}

// While logins get no answer, there is always one that has begun lately, and the eldest is not given
// up for it. So a server that comes back is found soon, and one behind a slow link is reached.
func TestYoungDialBeginsBesideThoseThatHang(t *testing.T) {
	t.Parallel()
	const room = 3
	srv := testserver.SharedPostgres(t)
	px := testkit.NewProxy(t, srv.Addr())
	var mu sync.Mutex
	var begun []context.Context
	p, err := sqlpool.NewPostgres(sqlpool.PostgresConfig{
		URL: strings.Replace(srv.URL(), srv.Addr(), px.Addr(), 1), MaxOpen: room, DialTimeout: time.Minute,
		FailFastAfter: poolkeeper.Off, KeepAlive: poolkeeper.Off, Logger: quiet(),
		Configure: func(c *pgxpool.Config) error {
			c.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
				mu.Lock()
				begun = append(begun, ctx)
				mu.Unlock()
				return new(net.Dialer).DialContext(ctx, network, addr)
			}
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer stop(t, p)
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	px.Mute(true)
	px.Reset()
	mu.Lock()
	begun = nil
	mu.Unlock()
	call := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		return p.Pool().Ping(ctx)
	}
	eventually(t, "dials fill the pool", func() bool { _ = call(); return p.Stats().Dialing == room })
	eventually(t, "another one takes the place of a dial", func() bool {
		_ = call()
		mu.Lock()
		defer mu.Unlock()
		return len(begun) > room
	})
	mu.Lock()
	eldest := begun[0].Err()
	mu.Unlock()
	if s := p.Stats(); eldest != nil || s.Dialing > room {
		t.Errorf("%d dials at once, of %d; the eldest: %v", s.Dialing, room, eldest)
	}
	px.Mute(false)
	eventually(t, "the server is found", func() bool { return call() == nil })
}

// notedConn counts its end.
type notedConn struct {
	net.Conn

	open *atomic.Int64
	once sync.Once
}

func (c *notedConn) Close() error {
	c.once.Do(func() { c.open.Add(-1) })
	return c.Conn.Close()
}

// pgx waits up to 15 s for the end of a connection whose query was given up. Stop does not leave its
// socket behind (INV-9).
func TestStopLeavesNoSocketOfALostConnectionOfPgx(t *testing.T) {
	t.Parallel()
	srv := testserver.SharedPostgres(t)
	px := testkit.NewProxy(t, srv.Addr())
	cfg, err := pgx.ParseConfig(strings.Replace(srv.URL(), srv.Addr(), px.Addr(), 1))
	if err != nil {
		t.Fatal(err)
	}
	var open atomic.Int64
	cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, dialErr := new(net.Dialer).DialContext(ctx, network, addr)
		if dialErr != nil {
			return nil, dialErr
		}
		open.Add(1)
		return &notedConn{Conn: c, open: &open}, nil
	}
	p, err := sqlpool.NewDB(stdlib.GetConnector(*cfg), sqlpool.DBConfig{Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := p.DB().PingContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	px.BlackHole()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := p.DB().ExecContext(ctx, "select 1"); err == nil {
		t.Error("an answer came out of the black hole")
	}
	stop(t, p)
	if n := open.Load(); n != 0 {
		t.Errorf("%d sockets are open after Stop", n)
	}
}
