package sqlpool_test

import (
	"context"
	"database/sql"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/sqlpool"
	"github.com/poolkeeper/poolkeeper/sqlpool/sqlpooltest"
)

// kindOfPool is pgxpool or database/sql, in a bubble, on a fake PostgreSQL server.
type kindOfPool struct {
	name string
	make func(t *testing.T, srv *sqlpooltest.PostgresServer, dial dialFunc, cfg sqlpool.DBConfig) bubblePool
}

type dialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

type bubblePool struct {
	acquire func(ctx context.Context) (release func(), err error)
	exec    func(ctx context.Context, query string) error
	tx      func(ctx context.Context, n *bubbleNetwork, lostBefore string) error // a transaction whose network is lost before that; if empty, a long one
	db      *sql.DB                                                              // nil on pgxpool
	reload  func(ctx context.Context, cfg sqlpool.DBConfig) error
	managed interface {
		Stats() poolkeeper.Stats
		Subscribe(fn func(poolkeeper.Event)) (cancel func())
		ObserveWith(o poolkeeper.Observer)
		Start(context.Context) error
		Check(context.Context) error
		Pause(context.Context) error
		Resume()
		Reset()
	}
}

var kindsOfPools = []kindOfPool{{"pgxpool", pgxInBubble}, {"database/sql", dbInBubble}}

func pgxInBubble(t *testing.T, srv *sqlpooltest.PostgresServer, dial dialFunc, cfg sqlpool.DBConfig) bubblePool {
	t.Helper()
	own := like[sqlpool.PostgresConfig](cfg)
	own.URL = srv.URL()
	own.Configure = func(native *pgxpool.Config) error {
		native.ConnConfig.DialFunc = dial
		return nil
	}
	p, err := sqlpool.NewPostgres(own)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, p) })
	return bubblePool{
		func(ctx context.Context) (func(), error) {
			c, err := p.Pool().Acquire(ctx)
			if err != nil {
				return nil, err
			}
			return c.Release, nil
		},
		func(ctx context.Context, query string) error { _, err := p.Pool().Exec(ctx, query); return err },
		func(ctx context.Context, n *bubbleNetwork, lostBefore string) error {
			tx, err := p.Pool().Begin(ctx)
			if err != nil {
				return err
			}
			if lostBefore == "" {
				for range 3 {
					if _, err := tx.Exec(ctx, "work"); err != nil {
						return err
					}
					time.Sleep(queryTimeout)
				}
				return tx.Commit(ctx)
			}
			n.lost.Store(true)
			if lostBefore == "commit" {
				return tx.Commit(ctx)
			}
			return tx.Rollback(ctx)
		},
		nil,
		func(ctx context.Context, cfg sqlpool.DBConfig) error {
			next := like[sqlpool.PostgresConfig](cfg)
			next.URL, next.Configure = own.URL, own.Configure
			return p.Reload(ctx, next)
		},
		p,
	}
}

func dbInBubble(t *testing.T, srv *sqlpooltest.PostgresServer, dial dialFunc, cfg sqlpool.DBConfig) bubblePool {
	t.Helper()
	native, err := pgx.ParseConfig(srv.URL())
	if err != nil {
		t.Fatal(err)
	}
	native.DialFunc = dial
	p, err := sqlpool.NewDB(stdlib.GetConnector(*native), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, p) })
	return bubblePool{
		func(ctx context.Context) (func(), error) {
			c, err := p.DB().Conn(ctx)
			if err != nil {
				return nil, err
			}
			return func() { _ = c.Close() }, nil
		},
		func(ctx context.Context, query string) error { _, err := p.DB().ExecContext(ctx, query); return err },
		func(ctx context.Context, n *bubbleNetwork, lostBefore string) error {
			tx, err := p.DB().BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			if lostBefore == "" {
				for range 3 {
					var n int
					if err := tx.QueryRowContext(ctx, "work").Scan(&n); !errors.Is(err, sql.ErrNoRows) {
						return err
					}
					time.Sleep(queryTimeout)
				}
				return tx.Commit()
			}
			n.lost.Store(true)
			if lostBefore == "commit" {
				return tx.Commit()
			}
			return tx.Rollback()
		},
		p.DB(),
		p.Reload,
		p,
	}
}

// onBothPools runs f in a bubble for each kind of pool, which has been started.
func onBothPools(t *testing.T, cfg sqlpool.DBConfig, f func(t *testing.T, srv *sqlpooltest.PostgresServer, network *bubbleNetwork, p bubblePool)) {
	t.Helper()
	for _, kind := range kindsOfPools {
		t.Run(kind.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := sqlpooltest.ServePostgresInMemory(t)
				network := &bubbleNetwork{dial: srv.Dial}
				t.Cleanup(func() { advance(time.Minute) }) // pgx by itself asks a silent server to cancel for 15 s
				own := cfg
				own.KeepAlive, own.Logger = poolkeeper.Off, quiet()
				p := kind.make(t, srv, network.Dial, own)
				if err := p.managed.Start(t.Context()); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(network.heal)
				t.Cleanup(srv.Heal)
				f(t, srv, network, p)
			})
		})
	}
}

// bubbleNetwork lies between a pool and its server.
type bubbleNetwork struct {
	dial   dialFunc
	lost   atomic.Bool  // what is sent is lost, and dials are not answered
	delay  atomic.Int64 // of every dial, in nanoseconds
	dialed atomic.Int64 // dials begun
	dials  testkit.Crowd
	during hook[func()] // runs in each dial
}

func (n *bubbleNetwork) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	n.dialed.Add(1)
	defer n.dials.Enter()()
	if f := n.during.get(); f != nil {
		f()
	}
	if d := time.Duration(n.delay.Load()); d > 0 {
		time.Sleep(d)
	}
	if n.lost.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	c, err := n.dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return leadingNowhere{c, &n.lost}, nil
}

func (n *bubbleNetwork) heal() { n.lost.Store(false); n.delay.Store(0) }

// waited is how long an acquisition without a deadline took to fail.
func (p bubblePool) waited(t *testing.T) (time.Duration, error) {
	t.Helper()
	start := time.Now()
	release, err := p.acquire(t.Context())
	if err == nil {
		release()
		t.Fatal("a connection was acquired")
	}
	return time.Since(start), err
}

const bound = 700 * time.Millisecond // AcquireTimeout

func TestNoCallerWaitsLongerThanAcquireTimeout(t *testing.T) {
	for name, fault := range map[string]func(t *testing.T, srv *sqlpooltest.PostgresServer, n *bubbleNetwork, p bubblePool){
		"queue": func(t *testing.T, _ *sqlpooltest.PostgresServer, _ *bubbleNetwork, p bubblePool) {
			t.Helper()
			for range 2 {
				release, err := p.acquire(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(release)
			}
		},
		"silent dial":      func(_ *testing.T, _ *sqlpooltest.PostgresServer, n *bubbleNetwork, _ bubblePool) { n.lost.Store(true) },
		"silent handshake": func(_ *testing.T, srv *sqlpooltest.PostgresServer, _ *bubbleNetwork, _ bubblePool) { srv.Hang() },
		"idle connections lead nowhere, dials too": func(t *testing.T, _ *sqlpooltest.PostgresServer, n *bubbleNetwork, p bubblePool) {
			t.Helper()
			giveBack(t, 2, func() (func(), error) { return p.acquire(t.Context()) })
			advance(5 * time.Second)
			n.lost.Store(true)
		},
		"idle connections are silent, and so are handshakes": func(t *testing.T, srv *sqlpooltest.PostgresServer, _ *bubbleNetwork, p bubblePool) {
			t.Helper()
			giveBack(t, 2, func() (func(), error) { return p.acquire(t.Context()) })
			advance(5 * time.Second)
			srv.Hang()
		},
	} {
		t.Run(name, func(t *testing.T) {
			onBothPools(t, sqlpool.DBConfig{MaxOpen: 2, AcquireTimeout: bound, DialTimeout: time.Minute}, func(t *testing.T, srv *sqlpooltest.PostgresServer, n *bubbleNetwork, p bubblePool) {
				t.Helper()
				fault(t, srv, n, p)
				for i := range 4 {
					took, err := p.waited(t)
					if took > bound || !errors.Is(err, poolkeeper.ErrAcquireTimeout) {
						t.Errorf("call %d waited %v, with AcquireTimeout %v: %v", i+1, took, bound, err)
					}
				}
				_, err := p.waited(t)
				kind, says := sqlpool.Classify(err).Kind, strings.Contains(err.Error(), "no connection could be opened for ")
				if full := name == "queue"; full && (says || kind != health.KindPoolExhausted) || !full && (!says || kind != health.KindTimeout) {
					t.Errorf("%s: %v", kind, err)
				}
				if got := p.managed.Stats().AcquireTimeouts; got != 5 {
					t.Errorf("AcquireTimeouts = %d of 5 callers", got)
				}
			})
		})
	}
}

// A refusal says so to all callers that waited when its dial began: dials of their own, MaxDials at
// a time, would tell them nothing new, and the last would wait for many round trips.
func TestRefusalIsToldToAllCallersThatWait(t *testing.T) {
	const rtt = 50 * time.Millisecond
	onBothPools(t, sqlpool.DBConfig{MaxOpen: 10, MaxIdleTime: time.Second, EvictionInterval: 100 * time.Millisecond}, func(t *testing.T, srv *sqlpooltest.PostgresServer, n *bubbleNetwork, p bubblePool) {
		t.Helper()
		advance(5 * time.Second)
		if st := p.managed.Stats(); st.Open != 0 {
			t.Fatalf("%d connections are open", st.Open)
		}
		srv.RefuseNew()
		n.delay.Store(int64(rtt))
		start := time.Now()
		var wg sync.WaitGroup
		for range 500 {
			wg.Go(func() {
				if _, err := p.acquire(t.Context()); err == nil || errors.Is(err, poolkeeper.ErrAcquireTimeout) {
					t.Errorf("%v, want the refusal", err)
				}
			})
		}
		wg.Wait()
		if took := time.Since(start); took > 3*rtt { // raw pools take 500 ÷ MaxOpen round trips
			t.Errorf("500 callers took %v, with %v for a refusal", took, rtt)
		}
	})
}

func TestOneCallerMoreThanMaxWaitingIsRefusedAtOnce(t *testing.T) {
	for _, limit := range []int{poolkeeper.NoWaiting, 3} {
		onBothPools(t, sqlpool.DBConfig{MaxOpen: 2, MaxDials: 1, MaxWaiting: limit}, func(t *testing.T, _ *sqlpooltest.PostgresServer, n *bubbleNetwork, p bubblePool) {
			t.Helper()
			n.delay.Store(int64(20 * time.Millisecond))
			var release []func()
			var mu sync.Mutex
			var wg sync.WaitGroup
			for range 2 + max(limit, 0) { // also callers beyond MaxDials: there is a place for them
				wg.Go(func() {
					r, err := p.acquire(t.Context())
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					defer mu.Unlock()
					release = append(release, r)
				})
			}
			advance(100 * time.Millisecond)
			took, err := p.waited(t)
			if took != 0 || !errors.Is(err, poolkeeper.ErrTooManyWaiting) || errors.Is(err, poolkeeper.ErrAcquireTimeout) {
				t.Errorf("%v after %v, want ErrTooManyWaiting at once", err, took)
			}
			if _, ok := errors.AsType[*poolkeeper.AcquireError](err); !ok {
				t.Errorf("%T is no AcquireError", err)
			}
			for range 2 + max(limit, 0) {
				mu.Lock()
				if len(release) > 0 {
					release[0]()
					release = release[1:]
				}
				mu.Unlock()
				synctest.Wait()
			}
			wg.Wait()
			if st := p.managed.Stats(); st.AcquireTimeouts != 0 || st.Refused != 1 || st.Acquired != uint64(2+max(limit, 0)) || st.InUse != 0 || st.Waiting != 0 {
				t.Errorf("%+v", st)
			}
			r, err := p.acquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			r()
		})
	}
}

// inMemory is a configuration that leads to srv.
func inMemory(srv *sqlpooltest.PostgresServer) sqlpool.PostgresConfig {
	return sqlpool.PostgresConfig{URL: srv.URL(), Logger: quiet(), KeepAlive: poolkeeper.Off, Configure: func(native *pgxpool.Config) error {
		native.ConnConfig.DialFunc = srv.Dial
		return nil
	}}
}

// Far more callers than can be served in time: those that come too late for it must not break the
// connections that the others need.
func TestOverloadBreaksNoConnections(t *testing.T) {
	onBothPools(t, sqlpool.DBConfig{MaxOpen: 10}, func(t *testing.T, srv *sqlpooltest.PostgresServer, _ *bubbleNetwork, p bubblePool) {
		t.Helper()
		srv.Answer("work", sqlpooltest.Answer{})
		srv.Slow(11 * time.Millisecond)
		for range 3 {
			var served atomic.Int64
			var wg sync.WaitGroup
			for range 500 {
				wg.Go(func() {
					switch err := p.exec(within(t, 100*time.Millisecond), "work"); {
					case err == nil:
						served.Add(1)
					case !errors.Is(err, context.DeadlineExceeded):
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if got := served.Load(); got < 85 {
				t.Errorf("%d callers were served, of 90 that 10 connections can serve in that time", got)
			}
			advance(time.Second)
		}
		if st := p.managed.Stats(); st.Dials > 10 || st.Evicted["dead"] != 0 || st.AcquireTimeouts == 0 {
			t.Errorf("%d dials, %v were lost, %d callers gave up waiting", st.Dials, st.Evicted, st.AcquireTimeouts)
		}
	})
}
