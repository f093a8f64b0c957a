package redispool

import (
	"context"
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"net"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/acquire"
	"github.com/poolkeeper/poolkeeper/internal/monotime"
)

const (
	// refusedPatience is for how long a server that refuses is asked again for each of go-redis'
	// attempts. By itself go-redis dials five times in an attempt, with pauses of 100 ms: no caller
	// shall wait longer than it would.
	refusedPatience = 400 * time.Millisecond
	// rereadPause is the least time between two looks at a Cluster's state that failed dials ask
	// for.
	rereadPause = time.Second
	// shortestPause and longestPause are between two attempts.
	shortestPause = 10 * time.Millisecond
	longestPause  = 100 * time.Millisecond
)

// dial opens a connection by next and keeps it on the books. It ends when ctx ends or the pool
// stops (INV-10), for callers when AcquireTimeout is over, and when the server is known to be down:
// then only trials, and checks, dial.
func (n *node) dial(ctx context.Context, p purpose, next dialFunc) (net.Conn, error) {
	if !n.pool.dialing.Enter() {
		return nil, n.pool.refusal()
	}
	defer n.pool.dialing.Leave()
	if p == forPool && n.pool.gate.Closed() && !n.callersWait() {
		return nil, n.pool.refusal() // for a subscription: a new one, or one that has lost its connection
	}
	if p == forPool || p == forInspection {
		if d := n.breaker.Down(); d != nil {
			n.pool.rereadCluster(ctx) // another node may serve its slots by now
			return nil, n.veiledDown(d)
		}
	}
	ctx, cancel := n.pool.whileAlive(ctx)
	defer cancel()
	if p == forPool {
		n.dialsNow.Add(1)
		defer n.dialsNow.Add(-1)
		n.dialBegins()
		var free func()
		ctx, free = n.whileWanted(ctx)
		defer free()
	}
	for {
		if c, err := n.dialBy(ctx, p, next); c != nil || err != nil {
			return c, err
		}
	}
}

// callersWait reports whether callers with a permit have no connection yet.
func (n *node) callersWait() bool {
	s := n.client.PoolStats()
	return int(n.permits.busy.Load()) > int(s.TotalConns)-int(s.IdleConns)
}

// dialBegins tells what waits for dials of the pool that one has begun.
func (n *node) dialBegins() {
	n.acquiringIdle.Store(false)
	select {
	case n.dialEntered <- struct{}{}:
	default:
	}
	if give := n.onDial.Load(); give != nil {
		(*give)()
	}
}

// whileWanted returns a context for a dial for callers.
func (n *node) whileWanted(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, free := n.breaker.Bound(ctx)
	limit := n.pool.cfg.AcquireTimeout
	if limit == 0 {
		return ctx, free
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, timeIsOver(limit))
	return ctx, func() {
		cancel()
		free()
	}
}

// veiledDown is d as go-redis gets it from a dial.
func (n *node) veiledDown(d *poolkeeper.DownError) error {
	return &veiled{err: d, elsewhere: n.readsElsewhere()}
}

// dialBy dials once, by the endpoint of now. It returns nothing if a Reload has come meanwhile: what
// that replaces was listed before, and go-redis would log in by what is new.
func (n *node) dialBy(ctx context.Context, p purpose, next dialFunc) (net.Conn, error) {
	born, by, start := monotime.Now(), n.pool.endpoint.Load(), new(opening)
	if p == forPool {
		start.login = n.pool.newLogin(by)
		start.watch = time.AfterFunc(slowDial, func() {
			n.noAnswer()
			n.breaker.Slow(born)
		})
		if limit := n.pool.cfg.AcquireTimeout; limit > 0 {
			start.until = born.Add(limit)
		}
	}
	native, err := n.connect(ctx, p, next)
	if err != nil {
		start.end()
		return nil, err
	}
	n.met.count(dialsDone)
	n.met.dialTook(monotime.Since(born))
	c, err := n.adopt(native, p, by, born, start)
	if err != nil {
		return nil, err
	}
	if by != n.pool.endpoint.Load() {
		c.condemn(reload)
		c.cut()
		return nil, nil //nolint:nilnil // once more
	}
	start.login.resolve(ctx, c)
	return c, nil
}

// connect dials, and for the pool waits for a while for a server that refuses: callers are held,
// within their own contexts, instead of failing one after the other as fast as they can try. One of
// them, the scout, asks the server again and again. The others dial when it has got through. When it
// has given up, another one takes its place.
func (n *node) connect(ctx context.Context, p purpose, next dialFunc) (net.Conn, error) {
	if p != forPool {
		return n.tryOnce(ctx, p, next)
	}
	began := monotime.Now()
	var native net.Conn
	var err error
	if known := n.outage.Load(); known != nil {
		err = known.err
	} else if native, err = n.tryOnce(ctx, p, next); !isRefused(err) {
		return native, n.final(ctx, err)
	}
	refused := err
	patient, cancel := context.WithTimeout(ctx, n.refusedPatience())
	defer cancel()
	native, err = n.awaitListener(patient, next, err)
	if err != nil && patient.Err() != nil { // perhaps in the middle of an attempt
		n.noteFailure(began, refused)
		if ctx.Err() == nil {
			err = refused // it was our patience that ended
		}
	}
	return native, n.final(ctx, err)
}

// refusedPatience is for how long a dial for the pool waits for a server that refuses. On a Cluster
// go-redis tries again by itself, for another node may have taken over; elsewhere all attempts are
// this one.
func (n *node) refusedPatience() time.Duration {
	attempts := n.pool.target.attempts()
	if n.ownsGate {
		return time.Duration(attempts) * refusedPatience
	}
	if limit := n.pool.cfg.AcquireTimeout; limit > 0 {
		return min(refusedPatience, limit/time.Duration(attempts))
	}
	return refusedPatience
}

// final returns the error of a dial for the pool as go-redis shall see it: one that it is not to
// try again is veiled.
func (n *node) final(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if n.pool.life.Err() != nil {
		return veil(n.pool.refusal())
	}
	if d := n.breaker.Down(); d != nil {
		return n.veiledDown(d)
	}
	if over, ok := errors.AsType[*acquire.TimeoutError](context.Cause(ctx)); ok {
		n.noAnswer()
		return veil(n.gaveUpAfter(over, n.pool.cfg.AcquireTimeout))
	}
	if kind := Classify(err).Kind; n.ownsGate && (kind == health.KindRefused || kind == health.KindTimeout) {
		return veil(err)
	}
	return err
}

// rereadCluster makes go-redis ask the Cluster for its slots, after a node could not be reached. By
// itself it asks when a node that it reaches sends it elsewhere, and else once a minute: for that
// long writes would go to a node that is dead, and that another has replaced.
func (p *Pool) rereadCluster(ctx context.Context) {
	c, ok := p.client.(*redis.ClusterClient)
	if !ok || p.life.Err() != nil {
		return
	}
	now, last := monotime.Now(), p.reread.Load()
	if (last == 0 || now.Sub(monotime.Time(last)) >= rereadPause) && p.reread.CompareAndSwap(last, int64(now)) {
		c.ReloadState(ctx)
	}
}

// awaitListener goes on where a first attempt was refused, until one is not, or ctx ends.
func (n *node) awaitListener(ctx context.Context, next dialFunc, err error) (net.Conn, error) {
	var native net.Conn
	for isRefused(err) && ctx.Err() == nil {
		mine := &outage{err: err, over: make(chan struct{})}
		if n.outage.CompareAndSwap(nil, mine) {
			native, err = n.scout(ctx, next, err)
			mine.ended = !isRefused(err)
			n.outage.Store(nil)
			close(mine.over)
			continue
		}
		if other := n.outage.Load(); other != nil {
			select {
			case <-other.over:
			case <-ctx.Done():
				return nil, err
			}
			if !other.ended {
				continue
			}
		}
		native, err = n.tryOnce(ctx, forPool, next)
	}
	return native, err
}

// scout dials until the server no longer refuses, or ctx ends.
func (n *node) scout(ctx context.Context, next dialFunc, err error) (net.Conn, error) {
	for delay := shortestPause; ; delay = min(2*delay, longestPause) {
		pause := time.NewTimer(delay - time.Duration(rand.Float64()*float64(delay)/4))
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return nil, err
		}
		var native net.Conn
		if native, err = n.tryOnce(ctx, forPool, next); !isRefused(err) {
			return native, err
		}
	}
}

// dialFunc is one attempt to open a connection.
type dialFunc func(context.Context) (net.Conn, error)

func isRefused(err error) bool { return err != nil && health.Classify(err).Kind == health.KindRefused }

// outage is a time in which the server refuses, with a scout out.
type outage struct {
	err   error         // of the attempt that was refused first
	over  chan struct{} // closed when the scout is back
	ended bool          // the scout was not refused in the end; set before over is closed
}

func (n *node) tryOnce(ctx context.Context, p purpose, next dialFunc) (net.Conn, error) {
	began := monotime.Now()
	var native net.Conn
	err := n.pool.events.Guarded("the Dialer, or a DialHook", func() (err error) {
		native, err = next(ctx)
		return err
	})
	n.pool.warnOfExpiries()
	if err != nil {
		n.met.count(dialsFailed)
		n.met.failed(err)
		n.noteFailure(began, err)
		n.dialFailed(p, began, err)
		n.pool.rereadCluster(ctx)
		return nil, err
	}
	n.dialled.Store(int64(began))
	n.lastDial.Store(nil)
	return native, nil
}

// noteFailure notes why an attempt that began then has failed. An attempt that began later and has
// got through says more about the server.
func (n *node) noteFailure(began monotime.Time, err error) {
	if monotime.Time(n.dialled.Load()) <= began {
		n.lastDial.Store(&err)
	}
}

// adopt puts a connection just dialled on the books. If the pool has stopped meanwhile, it closes
// it.
func (n *node) adopt(native net.Conn, p purpose, by *endpoint, born monotime.Time, start *opening) (*conn, error) {
	c := newConn(n, native, p, by, born, start)
	if p == forPool {
		n.greeting.Add(1)
		n.open.Add(1)
	}
	n.mu.Lock()
	n.conns[start.serial] = c
	n.mu.Unlock()
	if p == forPool {
		n.evictor.Wake()
	}
	if n.pool.life.Err() != nil {
		_ = c.Close()
		return nil, n.pool.refusal()
	}
	return c, nil
}

// connect opens a connection by a. The Dialer, and the functions of a tls.Config, are the
// service's.
func (p *Pool) connect(ctx context.Context, a *endpoint, network, addr string) (c net.Conn, err error) {
	err = p.events.Guarded("the Dialer", func() error {
		c, err = a.connect(ctx, network, addr)
		if t, ok := c.(*tls.Conn); ok && err == nil {
			a.book.Saw(t.ConnectionState())
		}
		return err
	})
	return c, err
}

// open opens a connection as the configuration in effect says.
func (p *Pool) open(ctx context.Context, network, addr string) (net.Conn, error) {
	return p.connect(ctx, p.endpoint.Load(), network, addr)
}
