package sqlpool

import (
	"context"
	"encoding/binary"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// pgxDialer opens the sockets of one connection: its own, and those by which pgconn asks the server to
// cancel what the connection runs. pgconn finds it in the configuration of the connection, which
// users may copy and connect by: all other dials are theirs.
type pgxDialer struct {
	b    *pgxBackend
	own  *dialing // of the connection itself
	dial pgconn.DialFunc

	busy     atomic.Bool // a call of pgx is under way, or has closed the connection: pgconn may ask to cancel it
	prepares bool        // the call is a Prepare of its own; owned by the holder
}

// open is the connection's DialFunc.
func (l *pgxDialer) open(ctx context.Context, network, addr string) (net.Conn, error) {
	if d, _ := ctx.Value(dialKey{}).(*dialing); d == l.own {
		return d.connect(func() (net.Conn, error) { return l.dial(ctx, network, addr) })
	}
	if l.busy.Load() {
		return l.openCancel(ctx, network, addr)
	}
	sock, err := l.dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &undecidedConn{Conn: sock, l: l}, nil
}

// openCancel bounds a cancel request, so that Stop ends it.
func (l *pgxDialer) openCancel(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, l.limit())
	defer cancel()
	defer context.AfterFunc(l.b.life, cancel)() //nolint:contextcheck // two lives bound it
	sock, err := l.dial(ctx, network, addr)
	if err == nil {
		err = sock.SetDeadline(time.Now().Add(l.limit()))
	}
	return sock, err
}

// limit is how long a cancel request may take.
func (l *pgxDialer) limit() time.Duration {
	if grace := l.b.base.cfg().CloseGrace; grace > 0 {
		return grace
	}
	return cancelLimit
}

// begin notes that a call begins.
func (l *pgxDialer) begin() { l.busy.Store(true) }

// rest notes that it has ended. A call that has closed its connection leaves a cancel request
// behind.
func (l *pgxDialer) rest(c *pgx.Conn) {
	if !c.IsClosed() {
		l.busy.Store(false)
	}
}

// pgxPing pings a connection of the pool. No tracer hears of pings, and one that is given up leaves
// a cancel request behind.
func pgxPing(ctx context.Context, c *pgx.Conn) error {
	if r := connOf(c.PgConn()); r != nil && r.dialer != nil {
		r.dialer.begin()
		defer r.dialer.rest(c)
	}
	return c.Ping(ctx)
}

// cancelCode begins a cancel request of PostgreSQL, after its length.
const cancelCode = 80877102

// undecidedConn is a socket that was opened outside a call of pgx. It serves another connection
// with the configuration of this one, or a cancel request. The first bytes tell which. If they
// begin TLS, the socket is left alone.
type undecidedConn struct {
	net.Conn

	l    *pgxDialer
	once sync.Once
}

func (c *undecidedConn) Write(b []byte) (int, error) {
	c.once.Do(func() {
		if len(b) >= 8 && binary.BigEndian.Uint32(b[4:8]) == cancelCode {
			_ = c.SetDeadline(time.Now().Add(c.l.limit())) // a socket that refuses it fails at the write
		}
	})
	return c.Conn.Write(b)
}

// NetConn returns the socket below, as that of tls.Conn does.
func (c *undecidedConn) NetConn() net.Conn { return c.Conn }
