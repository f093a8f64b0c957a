// Package pghooks guards the service's functions in a configuration of pgconn.
//
//	pgconn ──▶ Guard's wrapper ──▶ the service's function ── panics, Goexit ──▶ an error, and an event
//
// pgxpool opens a connection on a goroutine of its own, and pgconn reads the rest of an answer in
// the background after a caller gave up: a panic there would end the process, and a Goexit keep a
// place in the pool for ever. The package changes nothing else of what the functions do.
package pghooks

import (
	"context"
	"net"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/poolkeeper/poolkeeper/internal/event"
	"github.com/poolkeeper/poolkeeper/internal/guard"
)

// Guard guards the functions in the configuration of a connection that is about to be opened.
func Guard(events *event.Log, conf *pgconn.Config) {
	if f := conf.LookupFunc; f != nil {
		conf.LookupFunc = func(ctx context.Context, host string) (addrs []string, err error) {
			err = events.Guarded("LookupFunc", func() error { addrs, err = f(ctx, host); return err })
			return addrs, err
		}
	}
	if f := conf.AfterNetConnect; f != nil {
		conf.AfterNetConnect = func(ctx context.Context, cfg *pgconn.Config, was net.Conn) (conn net.Conn, err error) {
			err = events.Guarded("AfterNetConnect", func() error { conn, err = f(ctx, cfg, was); return err })
			if conn == nil {
				conn = was // pgconn closes it
			}
			return conn, err
		}
	}
	if f := conf.OAuthTokenProvider; f != nil {
		conf.OAuthTokenProvider = func(ctx context.Context) (token string, err error) {
			err = events.Guarded("OAuthTokenProvider", func() error { token, err = f(ctx); return err })
			return token, err
		}
	}
	if f := conf.ValidateConnect; f != nil {
		conf.ValidateConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
			return events.Guarded("ValidateConnect", func() error { return f(ctx, conn) })
		}
	}
	if f := conf.AfterConnect; f != nil {
		conf.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
			return events.Guarded("AfterConnect", func() error { return f(ctx, conn) })
		}
	}
	if f := conf.OnNotice; f != nil {
		conf.OnNotice = func(conn *pgconn.PgConn, n *pgconn.Notice) {
			_ = callback(events, "OnNotice", func() { f(conn, n) })
		}
	}
	if f := conf.OnNotification; f != nil {
		conf.OnNotification = func(conn *pgconn.PgConn, n *pgconn.Notification) {
			_ = callback(events, "OnNotification", func() { f(conn, n) })
		}
	}
	if f := conf.OnPgError; f != nil {
		conf.OnPgError = func(conn *pgconn.PgConn, e *pgconn.PgError) (keep bool) {
			_ = callback(events, "OnPgError", func() { keep = f(conn, e) })
			return keep // after a panic the connection is closed
		}
	}
}

// GuardDial guards a DialFunc.
func GuardDial(events *event.Log, f pgconn.DialFunc) pgconn.DialFunc {
	return func(ctx context.Context, network, addr string) (sock net.Conn, err error) {
		err = events.Guarded("DialFunc", func() error { sock, err = f(ctx, network, addr); return err })
		return sock, err
	}
}

// callback runs a function that returns no error.
func callback(events *event.Log, name string, f func()) error {
	return events.Panicked(name, guard.Call(f))
}
