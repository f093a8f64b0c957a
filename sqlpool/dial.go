package sqlpool

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/stdlib"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/rotation"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/driverconn"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/fault"
)

// hangUpLimit bounds how long a caller that returns a broken or surplus connection waits for its
// driver to close it (INV-10). The close goes on in the background, and its socket is closed if it
// can be reached.
const hangUpLimit = time.Second

// slowDial is the least time after which a dial counts as slow: it no longer holds up others, and
// makes room for them. While an address does not answer, some attempt is young at any time, and so
// the first to find it back.
const slowDial = 500 * time.Millisecond

// dialTimes follows how long it takes to open a connection, so that a dial over a slow link is not
// given up as slow.
type dialTimes struct{ limit atomic.Int64 } // a time.Duration

// slow is the time after which a dial counts as slow: twice what the last one took, and twice as
// long again for each whose login was given up, from slowDial to half of timeout.
func (t *dialTimes) slow(timeout time.Duration) time.Duration {
	return max(slowDial, min(time.Duration(t.limit.Load()), timeout/2))
}

// took notes how long a dial has taken.
func (t *dialTimes) took(d time.Duration) { t.limit.Store(int64(2 * d)) }

// gaveUp notes that a dial was given up because it was slow. Unless the network had not got
// through, the server may be there, and the next dial may take twice as long. Of those that began
// with the same limit one counts.
func (t *dialTimes) gaveUp(d *dialing) {
	limit := d.patience
	if d.connecting.Load() {
		return
	}
	if now := t.limit.Load(); now <= int64(limit) {
		t.limit.CompareAndSwap(now, int64(2*limit))
	}
}

// slowDial is when a dial that begins now counts as slow.
func (c *base) slowDial() time.Duration { return c.dials.slow(c.cfg().DialTimeout) }

// dialKey is how the driver's dial function finds the dial it belongs to.
type dialKey struct{}

// dialing is one connection being opened.
type dialing struct {
	began      time.Time
	patience   time.Duration // after which it counts as slow
	asked      uint64        // callers that had queued by then
	generation uint64
	sock       net.Conn        // below TLS
	connecting atomic.Bool     // the network has not got through yet
	login      *rotation.Login // what Credentials said; nil: it was not asked
	cancel     context.CancelFunc
	done       func() // stops what watches it

	// guarded by the backend's mutex
	slow     bool
	gone     bool // on pgxpool: the caller that caused it has given up
	replaced bool // it was cancelled to make room for a younger one
	over     bool // it has ended, and its timer may not have noticed
}

// connect opens the socket of a dial, and keeps it.
func (d *dialing) connect(dial func() (net.Conn, error)) (net.Conn, error) {
	d.connecting.Store(true)
	sock, err := dial()
	if err == nil {
		d.sock = sock
		d.connecting.Store(false)
	}
	return sock, err
}

// dialLocked begins dials for callers in the queue, within MaxOpen and MaxDials. What is about to
// be given back counts against the demand.
func (b *dbBackend) dialLocked() {
	if b.closed || b.paused {
		return
	}
	for b.dialing-len(b.slow) < min(b.waiting.Len()-b.coming, b.base.cfg().MaxDials) {
		if b.open+b.dialing >= b.max {
			b.makeRoomLocked()
			return // dialled comes back when there is room
		}
		b.dialing++
		// Owner: the backend. It ends with DialTimeout at the latest, and when the backend closes;
		// close waits for it.
		b.pending.Go(b.waiting.First().Dial)
	}
}

// dial opens one connection for the caller that is first in the queue by then. It does not end when
// the caller that caused it gives up: otherwise short deadlines would let no dial finish.
func (b *dbBackend) dial(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), b.base.cfg().DialTimeout)
	defer cancel()
	defer context.AfterFunc(b.life, cancel)() //nolint:contextcheck // two lives bound it
	d := &dialing{began: time.Now(), patience: b.base.slowDial(), cancel: cancel, asked: b.joined()}
	t := time.AfterFunc(d.patience, func() { b.tooSlow(d) })
	defer t.Stop()
	n, err := b.connect(context.WithValue(ctx, dialKey{}, d))
	b.dialled(d, n, err)
}

func (b *dbBackend) joined() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.waiting.Joined()
}

// refusedByAll reports whether a failed dial answers all callers that waited when it began, if no
// open connection could be returned: the server refuses connections. A dial for each caller,
// MaxDials at a time, would only delay them.
func refusedByAll(err error) bool { return fault.Classify(err).Kind == health.KindRefused }

// tooSlow lets others dial beside d.
func (b *dbBackend) tooSlow(d *dialing) {
	b.mu.Lock()
	if d.over {
		b.mu.Unlock()
		return
	}
	d.slow = true
	b.slow = append(b.slow, d)
	b.dialLocked()
	b.mu.Unlock()
	b.base.dialsSlowly(d.began)
}

// makeRoomLocked gives up a slow dial, if there is one, for the sake of a younger one. If there are
// several, the eldest has all the time that a slow link may need.
func (b *dbBackend) makeRoomLocked() {
	for _, d := range b.slow {
		if d.replaced {
			return // it is on its way out
		}
	}
	if len(b.slow) > 0 {
		d := b.slow[min(1, len(b.slow)-1)]
		d.replaced = true
		d.cancel()
		if len(b.slow) == 1 {
			b.base.dials.gaveUp(d)
		}
	}
}

// dialled books the outcome of a dial.
func (b *dbBackend) dialled(d *dialing, n *native, err error) {
	if err == nil {
		b.pending.Begin() // discard ends it
	}
	b.mu.Lock()
	b.dialing--
	d.over = true
	b.slow = slices.DeleteFunc(b.slow, func(x *dialing) bool { return x == d })
	switch {
	case err != nil && d.replaced:
	case err != nil && b.open == 0 && refusedByAll(err):
		b.waiting.Fail(d.asked, err)
	case err != nil:
		if w := b.waiting.Pop(); w != nil {
			w.Refuse(err)
		}
	case b.closed, b.open >= b.max: // meanwhile the pool was closed, or its limit lowered
		reason := poolkeeper.EvictedReload
		if b.closed {
			reason = poolkeeper.EvictedClosed
		}
		b.open++
		b.mu.Unlock()
		_ = b.discard(n, reason, hangUpLimit)
		return
	default:
		b.open++
		b.all[n] = struct{}{}
		b.deliverLocked(n)
	}
	b.dialLocked()
	b.mu.Unlock()
	b.base.evictor.Wake()
}

// connect opens a connection for the pool, counts it and times it.
func (b *dbBackend) connect(ctx context.Context) (*native, error) {
	start, generation := time.Now(), b.base.recovery.generation.Load()
	n, err := b.openNative(ctx, b.connectorNow())
	var login *rotation.Login
	if err == nil {
		login, n.login = n.login, nil
	}
	b.base.dialEnded(start, login, err)
	if err != nil {
		return nil, err
	}
	n.generation = generation // as of when it began: it may lead to where the old ones lead
	return n, nil
}

// openNative opens a connection. A driver that ignores its context is left behind when it ends;
// a connection it may come up with later is closed.
func (b *dbBackend) openNative(ctx context.Context, connector driver.Connector) (*native, error) {
	d, ok := ctx.Value(dialKey{}).(*dialing)
	if !ok {
		d = new(dialing)
		ctx = context.WithValue(ctx, dialKey{}, d)
	}
	type result struct {
		conn driver.Conn
		err  error
	}
	ready, left := make(chan result), make(chan struct{})
	// Owner: the backend. It ends when the driver returns, which is not in our hands; close waits for
	// it up to its own deadline.
	b.pending.Go(func() {
		conn, err := b.base.connectGuarded(ctx, connector)
		select {
		case ready <- result{conn, err}:
		case <-left:
			if err == nil {
				_ = b.base.guarded("the driver's Close", conn.Close)
			}
		}
	})
	var r result
	select {
	case r = <-ready:
	case <-ctx.Done():
		// Most drivers notice too, and their error says more.
		t := time.NewTimer(cutGrace)
		defer t.Stop()
		select {
		case r = <-ready:
		case <-t.C:
			close(left)
			r.err = context.Cause(ctx)
		}
	}
	if r.err != nil {
		return nil, fmt.Errorf("sqlpool: open a connection of %q: %w", b.base.poolName(), fault.Wrap(r.err))
	}
	now := time.Now()
	n := &native{
		Conn: driverconn.Of(r.conn), sock: d.sock, login: d.login,
		times: times{born: now, used: now, seen: now, draw: rand.Float64()},
	}
	if n.sock == nil {
		n.sock = socketOf(r.conn)
	}
	return n, nil
}

// connectGuarded opens a connection by the driver, whose functions may be the service's. A panic of
// theirs is an error: here it would end the process, where under plain database/sql it ends one
// request.
func (c *base) connectGuarded(ctx context.Context, connector driver.Connector) (conn driver.Conn, err error) {
	err = c.events.Guarded("the driver's Connect", func() error {
		conn, err = connector.Connect(ctx)
		return err
	})
	if err == nil && conn == nil {
		err = errors.New("the driver returned neither a connection nor an error")
	}
	return conn, err
}

// hangUp closes n, waiting for the driver no longer than limit, nor than giveUp, which may be nil.
func (b *dbBackend) hangUp(n *native, giveUp <-chan struct{}, limit time.Duration) error {
	done := make(chan error, 1)
	// Owner: the backend. It ends when the driver's Close returns, at the latest when its socket is
	// closed where that can be reached; close waits for it up to its own deadline.
	b.pending.Go(func() { b.base.closeConn(n.Native, done) })
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case err := <-done:
		if fault.AlreadyClosed(err) {
			return nil
		}
		return err
	case <-t.C:
	case <-giveUp:
	}
	if n.sock != nil {
		b.base.cut(n.sock)
	}
	return fmt.Errorf("sqlpool: the driver takes too long to close a connection of %q", b.base.poolName())
}

// socketOf finds the socket of a connection that was not dialled through the pool's own dial
// function.
func socketOf(c driver.Conn) net.Conn {
	if pg, ok := c.(*stdlib.Conn); ok {
		return belowTLS(pg.Conn().PgConn().Conn())
	}
	return nil
}

// belowTLS returns the connection under c if c is TLS: closing TLS wants to say goodbye first,
// which can take 5 s.
func belowTLS(c net.Conn) net.Conn {
	if t, ok := c.(interface{ NetConn() net.Conn }); ok {
		return t.NetConn()
	}
	return c
}
