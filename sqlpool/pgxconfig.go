package sqlpool

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/multitracer"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/poolkeeper/poolkeeper/internal/expiry"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/dsn"
)

func (b *pgxBackend) resolve(cfg config, on secretFiles) (target, config, error) {
	return b.postgresTarget(cfg, on)
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

// pgxTarget says how connections to PostgreSQL are opened, and which hooks of the user's they pass.
// It never changes.
type pgxTarget struct {
	native *pgxpool.Config // as the user has it
	conn   *pgx.ConnConfig // the same of one connection, with TLS and login

	prepare func(context.Context, *pgx.Conn) (bool, error)
	book    *expiry.Book // of its certificates and its password
}

func (t *pgxTarget) expiries() *expiry.Book { return t.book }

// passwordUntil notes until when the server accepts the password, if there is one.
func (t *pgxTarget) passwordUntil(until time.Time, cfg *config) {
	if t.conn.Password != "" || cfg.Credentials != nil {
		t.book.SetPassword(until)
	}
}

// anyTLS returns the TLS of the first host that is reached by TLS, or nil.
func anyTLS(c *pgx.ConnConfig) *tls.Config {
	config := c.TLSConfig
	for _, f := range c.Fallbacks {
		config = cmp.Or(config, f.TLSConfig)
	}
	return config
}

func (b *pgxBackend) newTarget(native *pgxpool.Config, cfg config, on secretFiles) *pgxTarget {
	t := &pgxTarget{native: native, prepare: native.PrepareConn}
	if before := native.BeforeAcquire; t.prepare == nil && before != nil { //nolint:staticcheck // users have it
		t.prepare = func(ctx context.Context, c *pgx.Conn) (bool, error) { return before(ctx, c), nil }
	}
	t.conn = native.ConnConfig.Copy()
	if config := on.TLS(cfg.TLS); config != nil {
		tlsFor(t.conn, config)
	}
	if user, password := on.Login(); password != "" {
		if user != "" {
			t.conn.User = user
		}
		t.conn.Password = password
	}
	t.book = expiry.New(anyTLS(t.conn), on.Authorities())
	return t
}

// tracer composes the pool's own tracer with the user's: of pgxpool, or of the connection behind
// dialer.
func (b *pgxBackend) tracer(user pgx.QueryTracer, dialer *pgxDialer) pgx.QueryTracer {
	own := &pgxTracer{b: b, dialer: dialer}
	if user == nil {
		return own
	}
	own.user, _ = user.(pgxpool.AcquireTracer)
	own.userRelease, _ = user.(pgxpool.ReleaseTracer)
	both := multitracer.New(user, own)
	both.PoolAcquireTracers = []pgxpool.AcquireTracer{own}
	both.PoolReleaseTracers = []pgxpool.ReleaseTracer{own}
	return both
}

// personalize puts the credentials of the moment into conn, and lets the user's own hook have the
// last word. It returns how long the dial of each host may take: the pool's bound, unless the hook
// has set another.
func (b *pgxBackend) personalize(
	ctx context.Context, t *pgxTarget, conn *pgx.ConnConfig, cfg *config,
) (time.Duration, error) {
	if err := b.base.logIn(ctx, conn, cfg); err != nil {
		return 0, err
	}
	was := conn.ConnectTimeout
	if user := t.native.BeforeConnect; user != nil {
		var err error
		if panicked := b.base.callback("BeforeConnect", func() { err = user(ctx, conn) }); panicked != nil {
			return 0, panicked
		}
		if err != nil {
			return 0, err
		}
	}
	if conn.ConnectTimeout != was {
		return conn.ConnectTimeout, nil
	}
	return perHost(ctx, conn, cfg.DialTimeout), nil
}

// perHost shares out the time for opening a connection, as far as ctx leaves it, among the hosts
// that pgconn tries one after the other: one that is silent must not use up the time of those
// behind it.
func perHost(ctx context.Context, c *pgx.ConnConfig, limit time.Duration) time.Duration {
	if by, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(by))
	}
	hosts := map[string]bool{net.JoinHostPort(c.Host, strconv.Itoa(int(c.Port))): true}
	for _, f := range c.Fallbacks {
		hosts[net.JoinHostPort(f.Host, strconv.Itoa(int(f.Port)))] = true
	}
	return max(limit/time.Duration(len(hosts)), time.Nanosecond) // 0 would be for ever
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

// shown returns the configuration that Pool().Config() returns. It is the user's own, with the
// sizes and times of cfg. pgxpool keeps the pointer that it was made with, and has copied the
// hooks. Of the rest it reads only ConnConfig, which beforeConnect replaces. So a pool or a
// connection that a caller makes from it does not involve this pool.
func (b *pgxBackend) shown(t *pgxTarget, cfg config) *pgxpool.Config {
	out := t.native.Copy()
	out.ConnConfig = t.conn.Copy()
	out.MaxConns = int32(cfg.MaxOpen)     //nolint:gosec // at most maxMaxOpen
	out.MinIdleConns = int32(cfg.MinIdle) //nolint:gosec // the same
	out.MaxConnLifetime = cfg.MaxLifetime
	out.MaxConnLifetimeJitter = time.Duration(cfg.LifetimeJitter * float64(cfg.MaxLifetime))
	out.MaxConnIdleTime = cfg.MaxIdleTime
	if out.MaxConnIdleTime <= 0 {
		out.MaxConnIdleTime = math.MaxInt64 // of pgxpool's own times only this one knows no zero
	}
	if cfg.Credentials != nil || cfg.CredentialsFile != "" {
		out.BeforeConnect = b.rotating(t)
	}
	return out
}

// rotating returns a BeforeConnect that logs in as the pool does at that moment, unless the login
// was changed. Then comes the user's own.
func (b *pgxBackend) rotating(t *pgxTarget) func(context.Context, *pgx.ConnConfig) error {
	user, password, then := t.conn.User, t.conn.Password, t.native.BeforeConnect
	return func(ctx context.Context, conn *pgx.ConnConfig) error {
		if conn.User == user && conn.Password == password {
			now := b.target.Load().conn
			conn.User, conn.Password = now.User, now.Password
			if err := b.base.logIn(ctx, conn, b.base.cfg()); err != nil {
				return err
			}
		}
		if then != nil {
			return then(ctx, conn)
		}
		return nil
	}
}
