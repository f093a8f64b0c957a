package sqlpool

import (
	"context"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

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
