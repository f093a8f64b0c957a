package sqlpool

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/eviction"
	"github.com/poolkeeper/poolkeeper/internal/life"
	"github.com/poolkeeper/poolkeeper/internal/settings"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/dsn"
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

// postgresTarget turns cfg into pgx's own configuration, and fills in what URL adds.
func (b *pgxBackend) postgresTarget(cfg config, on secretFiles) (*pgxTarget, config, error) {
	err := errors.Join(cfg.validate(), on.err)
	native, parseErr := parsePostgres(&cfg)
	if err = errors.Join(err, parseErr); err != nil {
		return nil, config{}, err
	}
	if err = cfg.validate(); err != nil { // again, with what URL has added
		return nil, config{}, err
	}
	if cfg.ConfigurePostgres != nil {
		if err = cfg.ConfigurePostgres(native); err != nil {
			return nil, config{}, fmt.Errorf("sqlpool: Configure: %w", err)
		}
	}
	cfg = cfg.withDefaults("postgres")
	cfg.MaxOpenCeiling = max(cfg.MaxOpenCeiling, cfg.MaxOpen)
	return b.newTarget(native, cfg, on), cfg, nil
}

// parsePostgres parses cfg.URL and moves the pool_ parameters in it to the fields of cfg that are
// zero.
func parsePostgres(cfg *config) (*pgxpool.Config, error) {
	if cfg.URL == "" { // pgx would go by the environment, and then by a socket on this machine
		return nil, errors.New(`sqlpool: URL is empty; it must be a postgres:// URL or "host=… user=…"`)
	}
	if err := readPoolParams(cfg); err != nil {
		return nil, err
	}
	native, err := pgxpool.ParseConfig(cfg.URL)
	if err != nil {
		return nil, dsn.NotShown(err)
	}
	if t := native.ConnConfig.ConnectTimeout; cfg.DialTimeout == 0 && t > 0 && t != pgxConnectTimeout {
		cfg.DialTimeout = t // connect_timeout of URL or PGCONNECT_TIMEOUT
	}
	return native, nil
}

// pgxConnectTimeout is pgconn's default; any other value was asked for.
const pgxConnectTimeout = 2 * time.Minute

// readPoolParams reads what pgxpool.ParseConfig would take for itself.
func readPoolParams(cfg *config) error {
	p, err := dsn.PostgresParams(cfg.URL)
	if err != nil {
		return err
	}
	p.Number(&cfg.MaxOpen, "pool_max_conns")
	p.Number(&cfg.MinIdle, "pool_min_idle_conns")
	p.Number(&cfg.MinIdle, "pool_min_conns")
	p.Span(&cfg.MaxLifetime, "pool_max_conn_lifetime")
	p.Span(&cfg.MaxIdleTime, "pool_max_conn_idle_time")
	p.Span(&cfg.EvictionInterval, "pool_health_check_period")
	var jitter time.Duration
	p.Span(&jitter, "pool_max_conn_lifetime_jitter")
	if jitter > 0 && cfg.LifetimeJitter == 0 && cfg.MaxLifetime > 0 {
		cfg.LifetimeJitter = min(jitter.Seconds()/cfg.MaxLifetime.Seconds(), 1)
	}
	return p.Err()
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
// Its Config is the caller's own configuration with the sizes and times of the
// PostgresConfig in effect, also after a Reload: a pool or a connection made by it is pgx's own, which
// this pool neither counts nor closes. With Credentials or a CredentialsFile its BeforeConnect logs
// in as this pool does, unless User or Password was changed.
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
// [*poolkeeper.HeldError]. For each connection that is never released, one goroutine of pgxpool's Close stays.
// The owners of hijacked connections must close them. It may be called without Start, more than
// once and concurrently: all calls return the outcome of the first.
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

// Plan returns the changes that Reload with cfg would make. Its error joins every fault of cfg and
// every change that is not possible. It changes nothing and does not dial.
func (p *Postgres) Plan(cfg PostgresConfig) ([]poolkeeper.Change, error) {
	return p.m.planned(cfg.config())
}
