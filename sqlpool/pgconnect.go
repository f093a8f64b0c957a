package sqlpool

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/poolkeeper/poolkeeper/internal/rotation"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/pghooks"
)

// pgxDialTracer is the tracer of one dial, of pgxpool or of a check. All that users can read before and
// after the dial (in BeforeConnect, in tracers, by Conn.Config) is their own configuration; the
// pool's tracer, dialer and time are in it for the dial alone.
//
//	beforeConnect ─ pgxDialTracer ─▶ TraceConnectStart ─ pgxDialer, pgxTracer ─▶ dial, login ─▶ TraceConnectEnd ─ the user's again
type pgxDialTracer struct {
	pgx.QueryTracer // the user's; nil: none

	b          *pgxBackend
	outside    bool // the pool's checks dial: no connection of pgxpool
	generation uint64
	limit      time.Duration // for each host

	conf *pgx.ConnConfig // of the connection, from TraceConnectStart on
	was  time.Duration   // its ConnectTimeout, as the user has it
	dialer *pgxDialer
}

// TraceConnectStart begins a dial.
func (t *pgxDialTracer) TraceConnectStart(ctx context.Context, data pgx.TraceConnectStartData) context.Context {
	t.conf = data.ConnConfig
	t.conf.Tracer = t.QueryTracer
	if user, ok := t.QueryTracer.(pgx.ConnectTracer); ok {
		_ = t.b.base.callback("TraceConnectStart", func() { ctx = user.TraceConnectStart(ctx, data) }) //nolint:fatcontext // called once
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
// gives up, or else no connection would ever be opened under short deadlines; but not both.
func (b *pgxBackend) tooSlow(d *dialing, slow, gone bool) {
	b.mu.Lock()
	if slow && !d.slow {
		d.slow = true
		b.slow++
		b.grantLocked()
	}
	d.gone = d.gone || gone
	if d.slow && d.gone {
		d.cancel()
		b.base.dials.gaveUp(d)
	}
	b.mu.Unlock()
	if slow {
		b.base.dialsSlowly(d.began)
	}
}

// endDial books its outcome.
func (b *pgxBackend) endDial(ctx context.Context, dialer *pgxDialer, used *pgx.ConnConfig, data pgx.TraceConnectEndData) {
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
	d.slow = true // from now on it is not counted
	if data.Err != nil && b.open == 0 && refusedByAll(data.Err) {
		b.waiting.Fail(d.asked, data.Err)
	}
	b.grantLocked()
	b.mu.Unlock()
	if data.Err != nil {
		b.dialEnds(ctx)
	}
}
