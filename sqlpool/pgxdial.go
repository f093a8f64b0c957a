package sqlpool

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/poolkeeper/poolkeeper/internal/expiry"
	"github.com/poolkeeper/poolkeeper/internal/rotation"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/fault"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/pghooks"
)

// dialOutside opens a connection that is none of the pool's.
func (b *pgxBackend) dialOutside(ctx context.Context, to *pgxTarget, cfg *config) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, cfg.DialTimeout)
	defer cancel()
	conn := to.conn.Copy()
	limit, err := b.personalize(ctx, to, conn, cfg)
	if err != nil {
		return nil, err
	}
	conn.Tracer = &pgxDialTracer{QueryTracer: conn.Tracer, b: b, book: to.book, outside: true, limit: limit}
	return pgx.ConnectConfig(ctx, conn)
}

// pgxDialTracer is the tracer of one dial, of pgxpool or of a check. All that users can read before
// and after the dial (in BeforeConnect, in tracers, by Conn.Config) is their own configuration; the
// pool's tracer, dialer and time are in it for the dial alone.
//
//	beforeConnect ─ pgxDialTracer ─▶ TraceConnectStart ─ pgxDialer, pgxTracer ─▶ dial, login
//	                                                                                │
//	                              the user's own again ◀─ TraceConnectEnd ◀─────────┘
type pgxDialTracer struct {
	pgx.QueryTracer // the user's; nil: none

	b          *pgxBackend
	book       *expiry.Book // of the target
	outside    bool         // the pool's checks dial: no connection of pgxpool
	generation uint64
	limit      time.Duration // for each host

	conf   *pgx.ConnConfig // of the connection, from TraceConnectStart on
	was    time.Duration   // its ConnectTimeout, as the user has it
	dialer *pgxDialer
}

// TraceConnectStart begins a dial.
func (t *pgxDialTracer) TraceConnectStart(ctx context.Context, data pgx.TraceConnectStartData) context.Context {
	t.conf = data.ConnConfig
	t.conf.Tracer = t.QueryTracer
	if user, ok := t.QueryTracer.(pgx.ConnectTracer); ok {
		//nolint:fatcontext // called once
		_ = t.b.base.callback("TraceConnectStart", func() { ctx = user.TraceConnectStart(ctx, data) })
	}
	d := &dialing{began: time.Now(), generation: t.generation}
	pghooks.Guard(t.b.base.events, &t.conf.Config)
	t.dialer = &pgxDialer{b: t.b, own: d, dial: pghooks.GuardDial(t.b.base.events, t.conf.DialFunc)}
	t.QueryTracer = t.conf.Tracer // a tracer may replace itself
	t.conf.DialFunc = t.dialer.open
	t.was, t.conf.ConnectTimeout = t.conf.ConnectTimeout, t.limit
	if t.outside {
		t.dialer.begin() // every other dial of it is a cancel request
		return context.WithValue(ctx, dialKey{}, d)
	}
	t.conf.Tracer = t.b.tracer(t.conf.Tracer, t.dialer)
	t.conf.OnPgError = t.b.onPgError(t.conf.OnPgError)
	return t.b.beginDial(ctx, d)
}

// TraceConnectEnd ends it. The connection goes on with the pool's DialFunc and OnPgError, which
// leave alone what is not the pool's; pgx has taken the tracer out of the configuration by now.
func (t *pgxDialTracer) TraceConnectEnd(ctx context.Context, data pgx.TraceConnectEndData) {
	t.conf.Tracer = t.QueryTracer
	if data.Err == nil { // else pgconn may still be reading the rest, in the background, to ask for a cancellation
		t.conf.ConnectTimeout = t.was
	}
	if data.Err == nil {
		if c, ok := data.Conn.PgConn().Conn().(*tls.Conn); ok {
			t.book.Saw(c.ConnectionState())
		}
	}
	if !t.outside {
		t.b.endDial(ctx, t.dialer, t.conf, data)
	}
	if user, ok := t.QueryTracer.(pgx.ConnectTracer); ok {
		_ = t.b.base.callback("TraceConnectEnd", func() { user.TraceConnectEnd(ctx, data) })
	}
}

// beginDial books a dial.
func (b *pgxBackend) beginDial(ctx context.Context, d *dialing) context.Context {
	w, _ := ctx.Value(waitKey{}).(*waitingContext)
	_, unbounded := ctx.Value(waitKey{}).(*acquisition)
	if limit := b.base.cfg().AcquireTimeout; unbounded && limit > 0 { // the idle connection it was to find is gone
		ctx, d.cancel = context.WithTimeout(ctx, limit)
	} else {
		ctx, d.cancel = context.WithCancel(ctx)
	}
	b.mu.Lock()
	b.dials++
	d.asked = b.waiting.Joined()
	b.mu.Unlock()
	d.patience = b.base.slowDial()
	t1 := time.AfterFunc(d.patience, func() { b.tooSlow(d, true, false) })
	d.done = func() { t1.Stop() }
	if w != nil && w.b == b {
		forget := context.AfterFunc(w.Context, func() { b.tooSlow(d, false, true) })
		d.done = func() { t1.Stop(); forget() }
	}
	return context.WithValue(ctx, dialKey{}, d)
}

// tooSlow notes that a dial is slow, or that its caller has gone. A dial goes on when its caller
// gives up, or else no connection would ever be opened under short deadlines. One that is slow as
// well goes on as long as nobody needs its place.
func (b *pgxBackend) tooSlow(d *dialing, slow, gone bool) {
	b.mu.Lock()
	if d.over {
		b.mu.Unlock()
		return
	}
	wasLeft := d.slow && d.gone
	if slow && !d.slow {
		d.slow = true
		b.slow++
	}
	d.gone = d.gone || gone
	if d.slow && d.gone && !wasLeft {
		b.left = append(b.left, d)
	}
	b.grantLocked()
	b.mu.Unlock()
	if slow {
		b.base.dialsSlowly(d.began)
	}
}

// makeRoomLocked gives up a slow dial whose caller has gone, for the sake of a younger one. If there
// are several, the eldest has all the time that a slow link may need.
func (b *pgxBackend) makeRoomLocked() {
	if len(b.left) == 0 || b.dials-b.slow >= b.base.pace.Window() {
		return // a dial is young
	}
	for _, d := range b.left {
		if d.replaced {
			return // it is on its way out
		}
	}
	if len(b.left) == 1 {
		b.base.dials.gaveUp(b.left[0])
	}
	b.giveUpLocked(b.left[min(1, len(b.left)-1)])
}

func (b *pgxBackend) giveUpLocked(dials ...*dialing) {
	for _, d := range dials {
		d.replaced = true
		d.cancel()
	}
}

// endDial books its outcome.
func (b *pgxBackend) endDial(
	ctx context.Context, dialer *pgxDialer, used *pgx.ConnConfig, data pgx.TraceConnectEndData,
) {
	d := dialer.own
	d.done()
	d.cancel()
	var login *rotation.Login
	if b.base.cfg().Credentials != nil {
		login = &rotation.Login{User: used.User, Password: used.Password}
	}
	b.base.dialEnded(d.began, login, data.Err)
	if data.Err == nil {
		r := b.newConn(data.Conn, d.sock)
		r.generation, r.dialer = d.generation, dialer
	}
	b.mu.Lock()
	b.dials--
	if d.slow {
		b.slow--
	}
	d.over = true
	b.left = slices.DeleteFunc(b.left, func(x *dialing) bool { return x == d })
	if data.Err != nil && b.open == 0 && refusedByAll(data.Err) {
		b.waiting.Fail(d.asked, data.Err)
	}
	b.grantLocked()
	b.mu.Unlock()
	if data.Err != nil {
		b.dialEnds(ctx)
	}
}

// pgxDialer opens the sockets of one connection: its own, and those by which pgconn asks the server
// to cancel what the connection runs. pgconn finds it in the configuration of the connection, which
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

// hangUp closes a connection and waits until nothing of it is left: pgconn may be busy asking the
// server to cancel a query that was given up. At the end of ctx, or of hangUpLimit, it closes the
// socket; Stop waits for the rest.
func (b *pgxBackend) hangUp(ctx context.Context, c *pgx.Conn) {
	ctx, cancel := context.WithTimeout(ctx, hangUpLimit)
	defer cancel()
	sock := belowTLS(c.PgConn().Conn())
	defer context.AfterFunc(ctx, func() { b.base.cut(sock) })()
	_ = c.Close(ctx)
	done := c.PgConn().CleanupDone()
	select {
	case <-done:
		return
	case <-ctx.Done():
	}
	// Owner: the backend. pgconn's own goroutine ends with the socket and with its cancel request,
	// which pgxDialer bounds.
	b.pending.Go(func() { <-done })
}

// newConn makes the record of a new connection.
func (b *pgxBackend) newConn(c *pgx.Conn, sock net.Conn) *pgxConn {
	r := &pgxConn{sock: belowTLS(sock), times: times{draw: rand.Float64()}}
	c.PgConn().CustomData()[customKey] = r
	runtime.AddCleanup(c, b.forget, r)
	return r
}

// Two ways lead to the failures of a connection's traffic. pgconn's OnPgError gets every error that
// the server sends, whatever it answers: simple and extended queries, batches, COPY, Prepare, and
// what goes through PgConn. The tracer gets how the calls of pgx end, and so the failures that the
// server says nothing about.

// onPgError returns an OnPgError that draws conclusions and leaves it to the user's whether the
// connection is closed.
func (b *pgxBackend) onPgError(user pgconn.PgErrorHandler) pgconn.PgErrorHandler {
	return func(c *pgconn.PgConn, e *pgconn.PgError) bool {
		b.noteServerError(c, e)
		return user == nil || user(c, e)
	}
}

// noteServerError draws conclusions from an error of the server. Errors before a connection is
// established are those of its dial. It may run on a goroutine of pgconn, which reads what the
// server still has to say after a caller gave up.
func (b *pgxBackend) noteServerError(c *pgconn.PgConn, e *pgconn.PgError) {
	r := connOf(c)
	if r == nil {
		return
	}
	switch {
	case fault.PGRefusesWrites(c, e):
		b.noteDemoted(r, e)
	case e.Code != fault.ReadOnlyTransaction && fault.ConnectionLevel(e):
		b.base.observer.Observe(e)
	}
}

// noteDemoted notes that the server refuses writes.
func (b *pgxBackend) noteDemoted(r *pgxConn, e *pgconn.PgError) {
	r.demoted.Store(true)
	b.base.observer.Observe(e)
	b.base.noteRefusedWrite(b, r.generation, e)
}
