package sqlpool_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/sqlpool"
	"github.com/poolkeeper/poolkeeper/sqlpool/sqlpooltest"
)

// logins notes connections that are being opened, from the dial to the end of the login. Those that
// were refused have cost the server nothing, and are left out.
type logins struct {
	mu   sync.Mutex // guards the following
	all  []*login
	from time.Time // what ended before is left out
}

type login struct {
	begun, ended time.Time // ended is zero as long as it has not
	refused      bool
}

func (l *logins) begin() *login {
	l.mu.Lock()
	defer l.mu.Unlock()
	one := &login{begun: time.Now()}
	l.all = append(l.all, one)
	return one
}

func (l *logins) end(one *login, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	one.ended, one.refused = time.Now(), health.Classify(err).Kind == health.KindRefused
}

func (l *logins) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.from = time.Now()
}

// seen returns how many were under way at once, and in all.
func (l *logins) seen() (most, in int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var left []*login
	for _, x := range l.all {
		if !x.refused && (x.ended.IsZero() || x.ended.After(l.from)) {
			left = append(left, x)
		}
	}
	for _, x := range left { // the most are under way when one begins
		now := 0
		for _, y := range left {
			if !y.begun.After(x.begun) && (y.ended.IsZero() || y.ended.After(x.begun)) {
				now++
			}
		}
		most = max(most, now)
	}
	return most, len(left)
}

// pgLogins notes those of pgx.
type pgLogins struct{ *logins }

type loginKey struct{}

func (l pgLogins) TraceConnectStart(ctx context.Context, _ pgx.TraceConnectStartData) context.Context {
	return context.WithValue(ctx, loginKey{}, l.begin())
}

func (l pgLogins) TraceConnectEnd(ctx context.Context, data pgx.TraceConnectEndData) {
	if one, ok := ctx.Value(loginKey{}).(*login); ok {
		l.end(one, data.Err)
	}
}

func (l pgLogins) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}
func (l pgLogins) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// dbLogins notes those of a driver of database/sql.
type dbLogins struct {
	driver.Connector
	*logins
}

func (l dbLogins) Connect(ctx context.Context) (driver.Conn, error) {
	one := l.begin()
	c, err := l.Connector.Connect(ctx)
	l.end(one, err)
	return c, err
}

// stormCallers need a connection each, all the time.
const stormCallers = 50

// storm runs callers through an outage and says how many connections were opened at once after it,
// how many in all, and how many of the queries begun after it failed. over is called when the
// server is back. In a bubble sleep is time.Sleep.
func storm(ctx context.Context, query func(context.Context) error, l *logins, sleep func(time.Duration), outage func(over func())) (most, begun, late int, first time.Duration) {
	end := make(chan struct{})
	var wg sync.WaitGroup
	var mu sync.Mutex
	var back time.Time
	for range stormCallers {
		wg.Go(func() {
			for {
				select {
				case <-end:
					return
				default:
				}
				sleep(5 * time.Millisecond)
				mu.Lock()
				counted := !back.IsZero()
				mu.Unlock()
				err := query(ctx)
				mu.Lock()
				switch {
				case err != nil && counted:
					late++
				case err == nil && counted && first == 0:
					first = time.Since(back)
				}
				mu.Unlock()
			}
		})
	}
	sleep(time.Second) // every caller has a connection
	outage(func() {
		mu.Lock()
		defer mu.Unlock()
		back = time.Now()
	})
	sleep(2 * time.Second)
	most, begun = l.seen()
	close(end)
	wg.Wait()
	return most, begun, late, first
}

// pass lets time go by: the load is what is waited for.
func pass(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	<-t.C
}

// A server that has just come back must not be met by all callers at once.
func TestRestartedServerIsNotStormed(t *testing.T) {
	for _, pool := range []struct {
		name string
		run  func(t *testing.T, dials int) (most, begun, late int, first time.Duration)
	}{{"database/sql", dbStorm}, {"pgxpool", pgStorm}} {
		for _, dials := range []int{0, 1, stormCallers} {
			t.Run(fmt.Sprintf("%s, MaxDials %d", pool.name, dials), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					most, begun, late, first := pool.run(t, dials)
					t.Logf("%d connections were opened, at most %d at once; first success after %v", begun, most, first)
					if late != 0 || first == 0 || first > 1500*time.Millisecond {
						t.Errorf("%d queries failed that were begun when the server was back; first success after %v", late, first)
					}
					switch {
					case dials == stormCallers && most <= sqlpool.DefaultMaxDials:
						t.Errorf("without a bound only %d connections were opened at once: this test sees nothing", most)
					case dials == 0 && most != sqlpool.DefaultMaxDials:
						t.Errorf("%d connections were opened at once, want MaxDials", most)
					case dials == 1 && most > 2: // pgxpool decides to dial a moment before it says so
						t.Errorf("%d connections were opened at once, want MaxDials", most)
					}
				})
			})
		}
	}
}

// Callers whose idle connections turn out to be dead need new ones. They must not open them all at
// once either.
func TestDeadIdleConnectionsDoNotSetOffAStorm(t *testing.T) {
	const n = 40
	for _, dials := range []int{0, n} {
		t.Run(fmt.Sprint("MaxDials ", dials), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun, most := afterDeadIdle(t, n, dials)
				if begun > n || dials == n && most < n/2 {
					t.Errorf("%d connections were opened, %d at once: without a bound this test must see a storm", begun, most)
				}
				if dials == 0 && most > sqlpool.DefaultMaxDials {
					t.Errorf("%d connections were opened at once, with MaxDials %d", most, sqlpool.DefaultMaxDials)
				}
			})
		})
	}
}

// afterDeadIdle has n callers come at once after the server has hung up on n idle connections, and
// says how many they opened, in all and at once.
func afterDeadIdle(t *testing.T, n, dials int) (begun, most int) {
	t.Helper()
	p, srv, l := stormPool(t, dials)
	giveBack(t, n, func() (func(), error) {
		c, err := p.Pool().Acquire(t.Context())
		return c.Release, err
	})
	l.forget()
	advance(2 * time.Second) // long enough for a ping
	srv.Drop()
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			if _, err := p.Pool().Exec(t.Context(), "work"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if st := p.Stats(); st.InUse != 0 || st.Waiting != 0 || st.Open > n {
		t.Errorf("%+v", st)
	}
	most, begun = l.seen()
	return begun, most
}

func TestCallersInForANewConnectionHoldUpNoPauseAndGiveUpInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, srv, _ := stormPool(t, 1)
		idle := func() {
			giveBack(t, 10, func() (func(), error) {
				c, err := p.Pool().Acquire(t.Context())
				return c.Release, err
			})
			time.Sleep(2 * time.Second) // long enough for a ping
			srv.Drop()
		}
		idle()
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if _, err := p.Pool().Exec(t.Context(), "work"); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if st := p.Stats(); st.Waiting == 0 {
			t.Error("nobody waits, although one connection is opened at a time")
		}
		if err := p.Pause(within(t, time.Second)); err != nil {
			t.Error(err)
		}
		p.Resume()
		wg.Wait()

		idle()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		defer cancel()
		for range 10 {
			wg.Go(func() {
				if _, err := p.Pool().Exec(ctx, "set x"); !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if err := p.Drain(within(t, time.Second)); err != nil { // every permit is back
			t.Error(err)
		}
	})
}

// A silent pool learns from the first caller that finds a connection dead, even if that caller
// gives up over it. The others need not each find out for themselves.
func TestSilentPoolWhoseConnectionsLeadNowhereCostsOneQueryPerCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lost atomic.Bool // what connections opened until then send
		p, srv := sqlpooltest.NewPostgresInMemory(t, func(c *sqlpool.PostgresConfig) {
			c.MaxOpen, c.Logger = 40, quiet()
			c.Configure = func(native *pgxpool.Config) error {
				dial := native.ConnConfig.DialFunc
				native.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
					conn, err := dial(ctx, network, addr)
					if lost.Load() {
						return conn, err
					}
					return leadingNowhere{conn, &lost}, err
				}
				return nil
			}
		})
		srv.Answer("work", sqlpooltest.Answer{})
		giveBack(t, 40, func() (func(), error) {
			c, err := p.Pool().Acquire(t.Context())
			return c.Release, err
		})
		advance(5 * time.Second)
		lost.Store(true)
		var failed atomic.Int64
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 6 {
					ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
					if _, err := p.Pool().Exec(ctx, "work"); err != nil {
						failed.Add(1)
					}
					cancel()
				}
			})
		}
		wg.Wait()
		if got := failed.Load(); got > 8 {
			t.Errorf("%d queries failed, want at most one for each of 8 callers", got)
		}
	})
}

// What a caller loses patience over is one connection, not all that are idle.
func TestImpatientCallerCostsOneConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, srv, _ := stormPool(t, 0)
		giveBack(t, 10, func() (func(), error) {
			c, err := p.Pool().Acquire(t.Context())
			return c.Release, err
		})
		advance(2 * time.Second)
		srv.Hang()
		if _, err := p.Pool().Exec(within(t, 100*time.Millisecond), "work"); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		srv.Heal()
		advance(time.Second)
		if st := p.Stats(); st.Idle != 9 || st.Evicted["dead"] != 1 {
			t.Errorf("%d are idle, %v were evicted; want one lost", st.Idle, st.Evicted)
		}
		if _, err := p.Pool().Exec(t.Context(), "set x"); err != nil {
			t.Error(err)
		}
	})
}

// leadingNowhere loses what it is sent, without a word.
type leadingNowhere struct {
	net.Conn

	lost *atomic.Bool
}

func (c leadingNowhere) Write(b []byte) (int, error) {
	if c.lost.Load() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

// stormPool is a pool whose connections take 20 ms to open, each "work" 300 ms.
func stormPool(t *testing.T, dials int) (*sqlpool.Postgres, *sqlpooltest.PostgresServer, *logins) {
	t.Helper()
	l := new(logins)
	p, srv := sqlpooltest.NewPostgresInMemory(t, func(c *sqlpool.PostgresConfig) {
		c.MaxOpen, c.MaxDials, c.Logger = stormCallers, dials, quiet()
		c.Configure = func(native *pgxpool.Config) error {
			native.ConnConfig.Tracer = pgLogins{l}
			dial := native.ConnConfig.DialFunc
			native.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
				time.Sleep(20 * time.Millisecond)
				return dial(ctx, network, addr)
			}
			return nil
		}
	})
	srv.Answer("work", sqlpooltest.Answer{})
	srv.Slow(300 * time.Millisecond)
	return p, srv, l
}

func dbStorm(t *testing.T, dials int) (most, begun, late int, first time.Duration) {
	t.Helper()
	s, l := newFakeServer(), new(logins)
	p, err := sqlpool.NewDB(dbLogins{s, l}, sqlpool.DBConfig{MaxOpen: stormCallers, MaxDials: dials, KeepAlive: poolkeeper.Off, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	defer stop(t, p)
	slow := func(ctx context.Context) error { return sleepFor(ctx, "20ms") }
	s.dial.set(slow)
	return storm(t.Context(), func(ctx context.Context) error { _, err := p.DB().ExecContext(ctx, "sleep 300ms"); return err }, l, time.Sleep, func(over func()) {
		s.dial.set(func(context.Context) error {
			return &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
		})
		s.breakAll()
		time.Sleep(time.Second)
		l.forget()
		s.dial.set(slow)
		over()
	})
}

func pgStorm(t *testing.T, dials int) (most, begun, late int, first time.Duration) {
	t.Helper()
	p, srv, l := stormPool(t, dials)
	return storm(t.Context(), func(ctx context.Context) error { _, err := p.Pool().Exec(ctx, "work"); return err }, l, time.Sleep, func(over func()) {
		srv.RefuseNew()
		srv.Drop()
		time.Sleep(time.Second)
		l.forget()
		srv.Heal()
		srv.Slow(300 * time.Millisecond)
		over()
	})
}

// BenchmarkDialStorm kills a server under callers that need a connection each, and restarts it. It
// counts the dials that the server then gets:
//
//	go test -bench DialStorm -benchtime 1x -run - ./sqlpool
func BenchmarkDialStorm(b *testing.B) {
	for name, servers := range map[string]func(testing.TB) (*testserver.Server, func(v variant, l *logins) func(context.Context) error){
		"postgres": pgStormServer, "mysql": mysqlStormServer,
	} {
		for what, v := range map[string]variant{
			"raw":              {raw: true},
			"managed":          {},
			"without MaxDials": {change: func(c *sqlpool.PostgresConfig) { c.MaxDials = c.MaxOpen }},
		} {
			b.Run(name+"/"+what, func(b *testing.B) {
				for b.Loop() {
					srv, pool := servers(b)
					l := new(logins)
					query := pool(v, l)
					most, begun, late, first := storm(b.Context(), func(ctx context.Context) error {
						ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
						defer cancel()
						return query(ctx)
					}, l, pass, func(over func()) {
						srv.Kill(b)
						pass(200 * time.Millisecond)
						l.forget()
						srv.Restart(b)
						over()
					})
					b.ReportMetric(float64(most), "at-once")
					b.ReportMetric(float64(begun), "begun")
					b.ReportMetric(float64(late), "late")
					b.ReportMetric(float64(first.Milliseconds()), "first-ms")
					b.ReportMetric(0, "ns/op")
				}
			})
		}
	}
}

func pgStormServer(tb testing.TB) (*testserver.Server, func(v variant, l *logins) func(context.Context) error) {
	tb.Helper()
	srv := testserver.Postgres(tb)
	return srv, func(v variant, l *logins) func(context.Context) error {
		p := pgPool(tb, srv.URL(), v, func(c *pgxpool.Config) error { c.ConnConfig.Tracer = pgLogins{l}; return nil })
		return func(ctx context.Context) error { _, err := p.Exec(ctx, "select pg_sleep(0.3)"); return err }
	}
}

func mysqlStormServer(tb testing.TB) (*testserver.Server, func(v variant, l *logins) func(context.Context) error) {
	tb.Helper()
	srv := testserver.MariaDB(tb)
	return srv, func(v variant, l *logins) func(context.Context) error {
		native, err := mysql.ParseDSN(srv.DSN())
		if err != nil {
			tb.Fatal(err)
		}
		native.Logger = &mysql.NopLogger{}
		connector, err := mysql.NewConnector(native)
		if err != nil {
			tb.Fatal(err)
		}
		var db *sql.DB
		if v.raw {
			db = sql.OpenDB(dbLogins{connector, l})
			db.SetMaxOpenConns(stormCallers)
			db.SetMaxIdleConns(stormCallers)
			tb.Cleanup(func() { _ = db.Close() })
		} else {
			p, err := sqlpool.NewDB(dbLogins{connector, l}, like[sqlpool.DBConfig](v.config(sqlpool.PostgresConfig{MaxOpen: stormCallers, Logger: quiet()})))
			if err != nil {
				tb.Fatal(err)
			}
			tb.Cleanup(func() { stopAfterFault(tb, p, v) })
			db = p.DB()
		}
		return func(ctx context.Context) error { _, err := db.ExecContext(ctx, "do sleep(0.3)"); return err }
	}
}
