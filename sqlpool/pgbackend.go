package sqlpool

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/holders"
)

// customKey is where a connection's record lies in its PgConn().CustomData().
const customKey = "poolkeeper.sqlpool"

// cancelLimit bounds how pgconn asks the server to cancel a query that its caller has given up, if CloseGrace is off.
const cancelLimit = time.Second

// pgRecord is what the pool knows of one connection. The connection refers to it, and not the other way round: of a
// connection that was hijacked, only the garbage collector knows when it is gone.
type pgRecord struct {
	times // used and seen are guarded by the backend's mutex, the rest does not change once it is connected

	sock  net.Conn // below TLS
	entry holders.Entry

	// Owned by whoever acquires or holds the connection.
	at      time.Time // of the acquisition under way; zero: it has taken time
	lastErr error     // of the last query that failed

	// guarded by the backend's mutex
	reason string // why it is being closed
	owes   bool   // its permit is given back when it is closed
}

// pgBackend works on a *pgxpool.Pool from its hooks. Callers pass through permits: the pool's own queue, first in,
// first out, before pgxpool's.
//
//	Acquire ─ TraceAcquireStart ─▶ permit ─▶ pgxpool ─ prepareConn ─ TraceAcquireEnd ─▶ in use ─ TraceRelease ─▶ idle
//	              └ ErrDraining, AcquireError                                              Hijack: see reconcile
type pgBackend struct {
	core        *core
	pool        *pgxpool.Pool // set before the backend is used
	checkConfig *pgx.ConnConfig
	probe       *checkConn[*pgx.Conn]
	life        context.Context //nolint:containedctx // ends at close; bounds cancel requests
	end         context.CancelFunc
	closes      tasks // goroutines that wait for a connection to be closed, or end the pool's own work
	closing     closer
	flushing    atomic.Bool

	userPrepare      func(context.Context, *pgx.Conn) (bool, error)
	userShouldPing   func(context.Context, pgxpool.ShouldPingParams) bool
	userAfterConnect func(context.Context, *pgx.Conn) error
	userBeforeClose  func(*pgx.Conn)
	userBeforeConn   func(context.Context, *pgx.ConnConfig) error

	mu       sync.Mutex // guards the following and the times of every record; no I/O and no call of pgxpool under it
	max      int
	permits  int // given out: holding a connection, acquiring one, or waiting for one to be closed
	holding  int // of permits, with a connection
	open     int // connections that are established and not being closed
	dials    int // being opened
	slow     int // of those, the ones that take long
	peak     int
	paused   int // sweeps that have taken out what is idle for a moment
	waiting  queue
	all      map[*pgRecord]struct{}
	events   uint64 // acquisitions and releases so far, for reconcile
	hijacked int
	later    *time.Timer // of the next reconcile while somebody waits
	closed   bool
}

func newPGBackend(c *core) *pgBackend {
	b := &pgBackend{core: c, max: c.cfg.MaxOpen, all: make(map[*pgRecord]struct{})}
	b.life, b.end = context.WithCancel(context.Background()) //nolint:forbidigo // the backend's own life, ended by close
	b.probe = newCheckConn(b.dialCheck, b.ask, hangUpPG)
	return b
}

// configureDial wraps what happens before and around a dial.
func (b *pgBackend) configureDial(native *pgxpool.Config) {
	conn := native.ConnConfig
	dial := conn.DialFunc
	conn.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		d, ours := ctx.Value(dialKey{}).(*dialing)
		if !ours { // a request to cancel a query, on behalf of nobody
			limit := cancelLimit
			if b.core.cfg.CloseGrace > 0 {
				limit = b.core.cfg.CloseGrace
			}
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, limit)
			defer cancel()
			defer context.AfterFunc(b.life, cancel)() //nolint:contextcheck // two lives bound it
			sock, err := dial(ctx, network, addr)
			if err == nil {
				err = sock.SetDeadline(time.Now().Add(limit))
			}
			return sock, err
		}
		sock, err := dial(ctx, network, addr)
		if err == nil {
			d.sock = sock
		}
		return sock, err
	}
	b.userBeforeConn, native.BeforeConnect = native.BeforeConnect, b.beforeConnect
}

// beforeConnect is where every dial of pgxpool begins. It asks for credentials.
func (b *pgBackend) beforeConnect(ctx context.Context, c *pgx.ConnConfig) error {
	if f, ok := ctx.Value(fillKey{}).(*fillContext); ok {
		f.begin()
	}
	if b.core.cfg.Credentials != nil {
		user, password, err := b.credentials(ctx)
		if err != nil {
			return fmt.Errorf("sqlpool: Credentials: %w", err)
		}
		if user != "" {
			c.User = user
		}
		c.Password = password
	}
	if b.userBeforeConn != nil {
		return b.userBeforeConn(ctx, c)
	}
	return nil
}

func (b *pgBackend) credentials(ctx context.Context) (user, password string, err error) {
	ctx, cancel := context.WithTimeout(ctx, b.core.cfg.DialTimeout)
	defer cancel()
	return b.core.cfg.Credentials(ctx)
}

// tlsFor puts t into the configuration of every host.
func tlsFor(c *pgx.ConnConfig, t *tls.Config) {
	with := func(host string) *tls.Config {
		own := t.Clone()
		if own.ServerName == "" && !own.InsecureSkipVerify {
			own.ServerName = host
		}
		return own
	}
	c.TLSConfig = with(c.Host)
	for _, f := range c.Fallbacks {
		f.TLSConfig = with(f.Host)
	}
}

// check dials and pings outside the pool.
func (b *pgBackend) check(ctx context.Context) error { return b.probe.check(ctx) }

func (b *pgBackend) dialCheck(ctx context.Context) (*pgx.Conn, error) {
	cfg := b.checkConfig.Copy()
	ctx = context.WithValue(ctx, dialKey{}, new(dialing))
	if err := b.beforeConnect(ctx, cfg); err != nil {
		return nil, err
	}
	return pgx.ConnectConfig(ctx, cfg)
}

func (b *pgBackend) ask(ctx context.Context, c *pgx.Conn) error {
	if q := b.core.cfg.CheckQuery; q != "" {
		_, err := c.Exec(ctx, q)
		return err
	}
	return c.Ping(ctx)
}

// hangUpPG closes a connection and waits, for hangUpLimit, until nothing of it is left.
func hangUpPG(ctx context.Context, c *pgx.Conn) {
	ctx, cancel := context.WithTimeout(ctx, hangUpLimit)
	defer cancel()
	_ = c.Close(ctx) // closes the socket even if ctx has ended
	select {         // pgconn cleans up in the background after a query that its caller has given up
	case <-c.PgConn().CleanupDone():
	case <-ctx.Done():
	}
}

func (b *pgBackend) stats(out *poolkeeper.Stats) {
	st := b.pool.Stat()
	b.mu.Lock()
	defer b.mu.Unlock()
	out.Max, out.Waiting = b.max, b.waiting.n
	out.InUse, out.Idle = int(st.AcquiredConns()), int(st.IdleConns())
	out.Open = out.InUse + out.Idle
}

func (b *pgBackend) dialing() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.dials
}

// settle waits until pgxpool agrees that nothing is acquired: all-idle acquisitions pass the gate by, and hijacked
// connections never come back to it.
func (b *pgBackend) settle(ctx context.Context) error {
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		b.reconcile()
		acquired := int(b.pool.Stat().AcquiredConns())
		if b.core.gate.InFlight() == 0 && acquired == 0 {
			return nil
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return fmt.Errorf("%d still in flight: %w", max(b.core.gate.InFlight(), acquired), context.Cause(ctx))
		}
	}
}

// close closes the pool once. For a connection that is never released, pgxpool's Close never returns, and the
// goroutine that called it stays.
func (b *pgBackend) close(ctx context.Context) error {
	b.end()
	b.refuseWaiting()
	err := b.closing.do(ctx, func() error { b.pool.Close(); return nil })
	return errors.Join(err, b.closes.wait(ctx), b.probe.close(ctx))
}

// noticeClosed ends the pool's own work after somebody else has closed the *pgxpool.Pool. pgxpool does not tell; it
// is noticed when somebody wants a connection.
func (b *pgBackend) noticeClosed(ctx context.Context) {
	if b.core.inPhase(phaseStopping) || b.core.inPhase(phaseStopped) {
		return
	}
	// Owner: the backend. It is bounded by hangUpLimit; close waits for it.
	b.closes.run(func() {
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), hangUpLimit)
		defer cancel()
		_ = b.core.handleClosed(bounded) // Stop reports what is left
		_ = b.probe.close(bounded)
	})
}

func (b *pgBackend) refuseWaiting() {
	b.mu.Lock()
	b.closed = true
	if b.later != nil {
		b.later.Stop()
	}
	var refused []*waiter
	for w := b.waiting.pop(); w != nil; w = b.waiting.pop() {
		refused = append(refused, w)
	}
	b.mu.Unlock()
	for _, w := range refused {
		w.ready <- grant{err: fmt.Errorf("sqlpool: acquire from %q: %w", b.core.poolName(), poolkeeper.ErrClosed)}
	}
}

func (b *pgBackend) cut(idleToo bool) (cut, left int) {
	b.mu.Lock()
	all := make([]*pgRecord, 0, len(b.all))
	for r := range b.all {
		all = append(all, r)
	}
	b.mu.Unlock()
	for _, r := range all {
		if !idleToo && !b.core.held.Holds(&r.entry) {
			continue
		}
		_ = r.sock.Close() // unblocks whoever reads or writes
		cut++
	}
	return cut, 0
}

// record makes the record of a new connection.
func (b *pgBackend) record(c *pgx.Conn, sock net.Conn) *pgRecord {
	r := &pgRecord{sock: belowTLS(sock), times: times{draw: rand.Float64()}}
	c.PgConn().CustomData()[customKey] = r
	runtime.AddCleanup(c, b.forget, r)
	return r
}

// forget ends the record of a connection that nobody has any more. All but hijacked ones have left the books before.
func (b *pgBackend) forget(r *pgRecord) {
	b.core.held.Release(&r.entry)
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.all, r)
}

func record(c *pgconn.PgConn) *pgRecord {
	r, _ := c.CustomData()[customKey].(*pgRecord)
	return r
}
