package sqlpool

import (
	"context"
	"database/sql/driver"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/stdlib"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/rotation"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/driverconn"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/fault"
)

func (b *dbBackend) connectorNow() driver.Connector {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.connector
}

// setConnector makes new connections be opened by connector, and at most limit of them be open.
func (b *dbBackend) setConnector(connector driver.Connector, limit int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.connector, b.max = connector, limit
	b.dialLocked()
}

// dialLocked begins dials for callers in the queue, within MaxOpen and MaxDials. What is about to
// be given back counts against the demand.
func (b *dbBackend) dialLocked() {
	if b.closed || b.paused {
		return
	}
	for b.dialing-len(b.slow) < min(b.waiting.Len()-b.coming, b.base.pace.Window()) {
		if b.open+b.dialing >= b.max {
			b.makeRoomLocked()
			return // dialled comes back when there is room
		}
		if wait := b.base.pace.Take(); wait > 0 {
			rearm(&b.later, wait, b.dialAgain)
			return
		}
		b.dialing++
		// Owner: the backend. It ends with DialTimeout at the latest, and when the backend closes;
		// close waits for it.
		b.pending.Go(b.waiting.First().Dial)
	}
}

// dialAgain dials for callers that have waited for credit. The timer calls it; shut stops that.
func (b *dbBackend) dialAgain() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dialLocked()
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
	// Owner: the backend. It ends when the driver returns, which is not in our hands; close waits
	// for it up to its own deadline.
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
		b.endCleanup(n)
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

// endCleanup bounds what pgx still does on a connection whose query was given up. By itself it waits
// for the server to hang up, for up to 15 s.
func (b *dbBackend) endCleanup(n *native) {
	pg, ok := n.Native.(*stdlib.Conn)
	if !ok || n.sock == nil {
		return
	}
	done := pg.Conn().PgConn().CleanupDone()
	// Owner: the backend. It is bounded by hangUpLimit; close waits for it.
	b.pending.Go(func() {
		t := time.NewTimer(hangUpLimit)
		defer t.Stop()
		select {
		case <-done:
		case <-t.C:
			b.base.cut(n.sock)
		}
	})
}

// socketOf finds the socket of a connection that was not dialled through the pool's own dial
// function.
func socketOf(c driver.Conn) net.Conn {
	if pg, ok := c.(*stdlib.Conn); ok {
		return belowTLS(pg.Conn().PgConn().Conn())
	}
	return nil
}

// Fill opens connections into what is prefilled, one after the other, as long as fewer than n are
// idle.
func (b *dbBackend) Fill(ctx context.Context, n int) error {
	if d := b.base.down(); d != nil {
		return d
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(b.life, cancel)() //nolint:contextcheck // two lives bound it
	for {
		b.mu.Lock()
		enough := b.enoughLocked(n)
		b.mu.Unlock()
		if enough || !b.base.pace.Await(ctx) {
			return ctx.Err()
		}
		b.mu.Lock()
		if enough = b.enoughLocked(n); !enough {
			b.dialing++
		}
		b.mu.Unlock()
		if enough || ctx.Err() != nil {
			if !enough {
				b.undial()
			}
			return ctx.Err()
		}
		c, err := b.connectWithin(ctx)
		b.filled(c, err)
		if err != nil {
			return err
		}
	}
}

// enoughLocked reports whether n connections are idle, or no more can be opened.
func (b *dbBackend) enoughLocked(n int) bool {
	return b.closed || b.paused || b.idle+b.swept+len(b.prefilled) >= n || b.open+b.dialing >= b.max
}

func (b *dbBackend) undial() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dialing--
	b.dialLocked()
}

func (b *dbBackend) connectWithin(ctx context.Context) (*native, error) {
	ctx, cancel := context.WithTimeout(ctx, b.base.cfg().DialTimeout)
	defer cancel()
	return b.connect(ctx)
}

// filled books the outcome of a dial that no caller waited for. No caller gets its failure.
func (b *dbBackend) filled(n *native, err error) {
	if err == nil {
		b.dialled(new(dialing), n, nil)
		return
	}
	b.undial()
}

// deliverLocked gives n to the first in the queue, or keeps it for the next caller.
func (b *dbBackend) deliverLocked(n *native) {
	if !b.paused {
		if w := b.waiting.PopInTime(b.base.metrics.shortUse.Load()); w != nil {
			b.inUse++
			w.Grant(n)
			return
		}
	}
	n.aged = true
	b.prefilled = append(b.prefilled, n)
}

// discard closes n and frees its place. It waits for the driver no longer than limit.
func (b *dbBackend) discard(n *native, reason string, limit time.Duration) error {
	err := b.hangUp(n, nil, limit)
	b.mu.Lock()
	delete(b.all, n)
	b.open--
	b.dialLocked()
	b.mu.Unlock()
	b.pending.End()
	b.base.evicted(reason)
	b.base.evictor.Wake()
	return err
}
