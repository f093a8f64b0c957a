package sqlpool

import (
	"cmp"
	"context"
	"net"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/poolkeeper/poolkeeper/internal/peer"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/fault"
)

// wordsOf returns the words of a kind of pool for what listens at its address.
func wordsOf(kind string) peer.Words {
	if kind == "mysql" {
		return peer.Words{Want: peer.MySQL, UseTLS: "give the server's own port; MySQL negotiates TLS there"}
	}
	return peer.Words{
		Want:   peer.Postgres,
		UseTLS: "set sslmode=require and sslnegotiation=direct in URL if it is PostgreSQL's, or give the server's own port",
	}
}

// explain adds to the error of a first connection what listens at the address, if that may be
// another server than the pool expects. Drivers cannot tell: they see a time-out, or the end of the
// connection. It opens connections of its own and blocks for 1.5 s at most, or until ctx ends.
func (m *manager) explain(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil || !fault.Unclear(err) {
		return err
	}
	dial, secure := m.back.reach(m.back.current())
	if dial == nil {
		return err
	}
	guarded := func(ctx context.Context) (c net.Conn, err error) { // the DialFunc may be the service's
		err = m.events.Guarded("the DialFunc", func() error { c, err = dial(ctx); return err })
		return c, err
	}
	found, differs := wordsOf(m.kind).Compare(peer.Identify(ctx, guarded), secure)
	if !differs {
		return err
	}
	return fault.Explained(err, found)
}

// reach implements backend. Of several hosts it reaches the first.
func (b *pgxBackend) reach(to target) (dial peer.Dial, secure bool) {
	t, ok := to.(*pgxTarget)
	if !ok {
		return nil, false
	}
	c := t.conn
	network, addr := pgconn.NetworkAddress(c.Host, c.Port)
	return func(ctx context.Context) (net.Conn, error) { return c.DialFunc(ctx, network, addr) }, c.TLSConfig != nil
}

// reach implements backend.
func (b *dbBackend) reach(to target) (dial peer.Dial, secure bool) {
	m, ok := to.(*mysqlConnector)
	if !ok || m.native.DialFunc == nil {
		return nil, false
	}
	c := m.native
	return func(ctx context.Context) (net.Conn, error) {
		return c.DialFunc(ctx, cmp.Or(c.Net, "tcp"), c.Addr)
	}, c.TLS != nil || c.TLSConfig != "" && c.TLSConfig != "false"
}
