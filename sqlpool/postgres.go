package sqlpool

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/eviction"
	"github.com/poolkeeper/poolkeeper/internal/life"
	"github.com/poolkeeper/poolkeeper/internal/settings"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/checkconn"
)

// Postgres is a *pgxpool.Pool whose connections are opened, watched and closed in order. All
// methods are safe for concurrent use.
type Postgres struct {
	pool

	back *pgxBackend

	mu sync.Mutex // guards the following
	db *sql.DB    // made by the first DB
}

// NewPostgres returns a pool of connections to PostgreSQL at cfg.URL. It does no I/O; as
// pgxpool.NewWithConfig does, it starts one goroutine that Stop or Abort ends. Every fault of cfg
// is reported at once, with cfg.Name.
func NewPostgres(cfg PostgresConfig) (*Postgres, error) {
	p, err := newPostgres(cfg.config())
	return p, settings.Named("sqlpool", cfg.Name, err)
}

func newPostgres(cfg config) (*Postgres, error) {
	b := newPgxBackend()
	on := cfg.readFiles()
	to, cfg, err := b.postgresTarget(cfg, on)
	if err != nil {
		return nil, err
	}
	b.base = newBase(cfg, "postgres")
	b.base.held.SettleBy(func() { b.reconcile() })
	b.target.Store(to)
	b.max = cfg.MaxOpen
	// No context of a caller: the pool's goroutine lives until Close.
	managed := b.managed(to.native, cfg)
	b.pool, err = pgxpool.NewWithConfig(context.Background(), managed) //nolint:forbidigo // see above
	if err != nil {
		return nil, fmt.Errorf("sqlpool: pgxpool refuses the configuration: %w", err)
	}
	*managed = *b.shown(to, cfg)
	b.base.evictor = eviction.New(b, cfg.policy())
	return &Postgres{pool: pool{component{newManager(b.base, b, on)}}, back: b}, nil
}

func newPgxBackend() *pgxBackend {
	b := &pgxBackend{all: make(map[*pgxConn]struct{}), waits: make(map[*waitingContext]struct{})}
	b.life, b.end = context.WithCancel(context.Background()) //nolint:forbidigo // the backend's own life, ended by close
	b.probe = checkconn.New(checkconn.Driver[*pgx.Conn]{
		Dial: b.dialCheck, Probe: b.ask, HangUp: b.hangUp, Full: serverIsFull, Spare: b.withIdle,
	})
	return b
}

// managed returns native with the pool's hooks, and with sizes and times taken into the pool's own
// hands.
func (b *pgxBackend) managed(native *pgxpool.Config, cfg config) *pgxpool.Config {
	native = native.Copy()
	native.ConnConfig = b.target.Load().conn.Copy()
	native.ConnConfig.Tracer = b.tracer(native.ConnConfig.Tracer, nil)
	native.BeforeAcquire = nil //nolint:staticcheck // taken over as PrepareConn
	native.BeforeConnect, native.AfterConnect, native.BeforeClose = b.beforeConnect, b.afterConnect, b.beforeClose
	native.PrepareConn, native.ShouldPing = b.prepareConn, b.shouldPing
	if native.AfterRelease != nil {
		native.AfterRelease, b.after = b.afterRelease, true
	}
	if native.PingTimeout == 0 {
		native.PingTimeout = min(pingLimit, cfg.DialTimeout)
	}
	native.MaxConns = int32(cfg.MaxOpenCeiling) //nolint:gosec // at most maxMaxOpen
	native.MinConns, native.MinIdleConns = 0, 0
	native.MaxConnLifetime, native.MaxConnLifetimeJitter = 0, 0
	native.MaxConnIdleTime = math.MaxInt64
	native.HealthCheckPeriod = math.MaxInt64 // the evictor's work
	return native
}

// Pool returns the native handle. The handle never changes. It works before Start, and refuses work
// with [poolkeeper.ErrDraining] once draining has begun. A caller may close it; Stop is still
// needed, to end the pool's own work.
//
// Its Config is the caller's own configuration with the sizes and times of the PostgresConfig in
// effect, also after a Reload: a pool or a connection made by it is pgx's own, which this pool
// neither counts nor closes. With Credentials or a CredentialsFile its BeforeConnect logs in as
// this pool does, unless User or Password was changed.
func (p *Postgres) Pool() *pgxpool.Pool { return p.back.pool }

// DB returns a *sql.DB over the same connections, for code that needs database/sql. It keeps no
// idle connections itself, so do not set its limits. Stop closes it. A statement is sent once: if
// its connection breaks under it, the caller gets an error where pgx would have database/sql send
// it again. Inside [database/sql.Conn.Raw], [Native] returns the *stdlib.Conn.
func (p *Postgres) DB() *sql.DB {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.db == nil {
		p.db = openPgxDB(p.back)
		if p.m.state.At() == life.Stopped {
			_ = p.db.Close() // it would never be closed, and it has a goroutine
		}
	}
	return p.db
}

func (p *Postgres) closeDB() {
	p.mu.Lock()
	db := p.db
	p.mu.Unlock()
	if db != nil {
		_ = db.Close() // it has no idle connections whose closing could fail
	}
}

// Stop drains and closes the pool. It blocks until every connection is closed, and then returns
// nil. If ctx ends before, it cuts off the callers that still hold a connection and returns a
// [*poolkeeper.HeldError]. For each connection that is never released, one goroutine of pgxpool's
// Close stays. The owners of hijacked connections must close them. It may be called without Start,
// more than once and concurrently: all calls return the outcome of the first.
func (p *Postgres) Stop(ctx context.Context) error {
	err := p.m.stop(ctx)
	p.closeDB()
	return err
}

// Abort is a Stop that does not wait for callers. It also ends a Stop under way.
func (p *Postgres) Abort() error {
	err := p.m.abort()
	p.closeDB()
	return err
}

// Reload replaces the configuration while the pool works. It first checks all of cfg, and returns
// every fault and every change that is not possible. If URL, TLS, Credentials or Configure differ,
// it opens and checks a connection with the new ones. Only then does it change anything. New sizes
// and times apply at once. Connections opened with old settings are replaced as they become idle,
// so that no query fails. If a check fails afterwards, the old configuration is put back. It blocks
// until then, at most until ctx ends. An empty Name, and a MaxOpenCeiling of 0, keep the old one.
// MaxOpen may grow up to MaxOpenCeiling.
func (p *Postgres) Reload(ctx context.Context, cfg PostgresConfig) error {
	return p.m.reload(ctx, cfg.config())
}

// Expiries says when the certificates expire: the client's, the server's as the last handshake has
// shown it, and the authority that has verified it, or before that those of TLSFiles.CA. Client
// certificates that a function returns are not known, and authorities of TLS.RootCAs or sslrootcert
// only by a handshake that verifies the name (sslmode=verify-full). The password's end is that of
// the role (VALID UNTIL), as last asked with the limits: at Start, after a Reload or a renewal, and
// by Limits. When a token of Credentials expires is not known otherwise. It does no I/O and does not
// block.
func (p *Postgres) Expiries() []poolkeeper.Expiry { return p.m.book().List() }

// Plan returns the changes that Reload with cfg would make. Its error joins every fault of cfg and
// every change that is not possible. It changes nothing and does not dial.
func (p *Postgres) Plan(cfg PostgresConfig) ([]poolkeeper.Change, error) {
	return p.m.planned(cfg.config())
}

// Hijack takes a connection out of the pool for good, as c.Hijack does. The caller must close it;
// its place is free at once. c.Hijack works too, but then the pool cannot tell which connection has
// left while callers hold several. It reports none of those as leaks until it can. Like c.Hijack it
// panics if c was released or hijacked before.
func (p *Postgres) Hijack(c *pgxpool.Conn) *pgx.Conn { return p.back.hijack(c) }

// lostError is how a statement fails whose connection was lost while it ran, where the driver calls
// that safe to retry. It never matches driver.ErrBadConn: the server may have carried out the
// statement, and database/sql would send it again.
type lostError struct{}

func (lostError) Error() string {
	return "sqlpool: the connection was lost while the statement ran; the server may have carried it out"
}

func (lostError) SafeToRetry() bool { return false }

func (lostError) Is(target error) bool {
	return target == io.ErrUnexpectedEOF || target == pgconn.ErrConnClosed
}

// pgxConnector is pgx's connector over a *pgxpool.Pool, of connections that send a statement once.
type pgxConnector struct{ driver.Connector }

func (o pgxConnector) Connect(ctx context.Context) (driver.Conn, error) {
	c, err := o.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	if pg, ok := c.(*stdlib.Conn); ok {
		return &pgxSQLConn{pg}, nil
	}
	return c, nil
}

// pgxSQLConn is pgx's connection for database/sql, but for one answer: pgx takes a connection that
// broke under a statement without arguments for one that was closed before, and has database/sql
// send the statement again.
type pgxSQLConn struct{ *stdlib.Conn }

// Unwrap returns pgx's own.
func (c *pgxSQLConn) Unwrap() driver.Conn { return c.Conn }

func (c *pgxSQLConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	pg := c.Conn.Conn()
	before := pg.IsClosed()
	res, err := c.Conn.ExecContext(ctx, query, args)
	if before || !errors.Is(err, driver.ErrBadConn) || !pg.IsClosed() {
		return res, err
	}
	if r := connOf(pg.PgConn()); r != nil && !errors.Is(r.lastErr, pgconn.ErrConnClosed) {
		return res, err // nothing was sent
	}
	return nil, lostError{}
}

func openPgxDB(b *pgxBackend) *sql.DB {
	db := sql.OpenDB(pgxConnector{stdlib.GetPoolConnector(b.pool)})
	db.SetMaxIdleConns(0) // pgxpool keeps the idle ones
	return db
}
