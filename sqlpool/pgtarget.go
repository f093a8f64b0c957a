package sqlpool

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/multitracer"
	"github.com/jackc/pgx/v5/pgxpool"
)

// pgxTarget says how connections to PostgreSQL are opened, and which hooks of the user's they pass.
// It never changes.
type pgxTarget struct {
	native *pgxpool.Config // as the user has it
	conn   *pgx.ConnConfig // the same of one connection, with TLS and login

	prepare func(context.Context, *pgx.Conn) (bool, error)
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
func (b *pgxBackend) personalize(ctx context.Context, t *pgxTarget, conn *pgx.ConnConfig, cfg *config) (time.Duration, error) {
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

// logIn asks Credentials.
func (c *base) logIn(ctx context.Context, conn *pgx.ConnConfig, cfg *config) error {
	if cfg.Credentials == nil {
		return nil
	}
	ask, cancel := context.WithTimeout(ctx, cfg.DialTimeout)
	defer cancel()
	login, err := c.askLogin(ask, cfg.Credentials)
	if err != nil {
		return err
	}
	if login.User != "" {
		conn.User = login.User
	}
	conn.Password = login.Password
	return nil
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

func (b *pgxBackend) pause() bool { return b.setHeld(true) }

func (b *pgxBackend) resume() { b.setHeld(false) }

// opening reports whether a connection is being opened, or a fill or a sweep has callers wait for a
// moment.
func (b *pgxBackend) opening() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.dials > 0 || b.paused > 0 || b.permits > 0
}

// setHeld makes callers queue, or lets them go on. It reports false if they do already.
func (b *pgxBackend) setHeld(held bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.held == held {
		return false
	}
	b.held = held
	b.grantEarlyLocked()
	b.grantLocked()
	return true
}

func (b *pgxBackend) resolve(cfg config, on secretFiles) (target, config, error) { return b.postgresTarget(cfg, on) }

func (b *pgxBackend) current() target { return b.target.Load() }

func (b *pgxBackend) try(ctx context.Context, to target, cfg *config) error {
	t, ok := to.(*pgxTarget)
	if !ok {
		return fmt.Errorf("sqlpool: not a target of pgx: %T", to)
	}
	c, err := b.dialOutside(ctx, t, cfg)
	if err != nil {
		return err
	}
	defer b.hangUp(ctx, c)
	return b.base.answered(pgxProbe(ctx, c, cfg.CheckQuery))
}

func (b *pgxBackend) use(ctx context.Context, to target, cfg *config, elsewhere bool) {
	if t, ok := to.(*pgxTarget); ok {
		b.target.Store(t)
	}
	b.mu.Lock()
	b.max = cfg.MaxOpen
	b.grantLocked()
	b.mu.Unlock()
	if elsewhere {
		b.probe.Redial(ctx)
	}
}
