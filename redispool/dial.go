package redispool

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/holders"
	"github.com/poolkeeper/poolkeeper/internal/monotime"
)

const (
	// refusedPatience is how long a dial for the pool waits for a server that refuses. On a Cluster it is shorter, for
	// another node may have taken over meanwhile, and a caller who waits cannot go there.
	refusedPatience        = 2 * time.Second
	refusedPatienceCluster = refusedPatience / 4
	// rereadPause is the least time between two looks at a Cluster's state that failed dials ask for.
	rereadPause = time.Second
	// shortestPause and longestPause are between two attempts.
	shortestPause = 10 * time.Millisecond
	longestPause  = 100 * time.Millisecond
)

// dial opens a connection by next and keeps it on the books. It ends when ctx ends or the pool stops (INV-10).
func (n *node) dial(ctx context.Context, p purpose, next dialFunc) (net.Conn, error) {
	if !n.pool.dialing.Enter() {
		if p == forProbe {
			return unconnected{}, nil // ends go-redis' loop; an error would have it sleep and ask again
		}
		return nil, n.pool.refusal()
	}
	defer n.pool.dialing.Leave()
	if p == forSubscription && n.pool.gate.Closed() {
		return nil, n.pool.refusal() // a new one, or one that has lost its connection
	}
	if p == forProbe {
		return n.awaitServer(next) //nolint:contextcheck // go-redis' own context would end before the server is back
	}
	ctx, cancel := n.pool.whileAlive(ctx)
	defer cancel()
	if p == forPool {
		select {
		case n.dialEntered <- struct{}{}:
		default:
		}
		if give := n.onDial.Load(); give != nil {
			(*give)()
		}
	}

	for {
		if c, err := n.dialBy(ctx, p, next); c != nil || err != nil {
			return c, err
		}
	}
}

// dialBy dials once, by the aim of now. It returns nothing if a Reload has come meanwhile: what that replaces was listed
// before, and go-redis would log in by what is new.
func (n *node) dialBy(ctx context.Context, p purpose, next dialFunc) (net.Conn, error) {
	start, by := monotime.Now(), n.pool.aim.Load()
	native, err := n.connect(ctx, p, next)
	if err != nil {
		return nil, err
	}
	n.pool.met.dials.Add(1)
	n.pool.met.dial.Record(monotime.Since(start))
	c, err := n.adopt(native, p, by, start)
	if err != nil {
		return nil, err
	}
	if by != n.pool.aim.Load() {
		c.condemn(reload)
		c.cut()
		return nil, nil //nolint:nilnil // once more
	}
	return c, nil
}

// connect dials, and for the pool waits for a while for a server that refuses: callers are held, within their own
// contexts, instead of failing one after the other as fast as they can try. One of them, the scout, asks the server
// again and again; the others dial when it has got through, or has given up.
func (n *node) connect(ctx context.Context, p purpose, next dialFunc) (net.Conn, error) {
	native, err := n.tryOnce(ctx, next)
	if p != forPool || !isRefused(err) {
		return native, err
	}
	refused := err
	patience := refusedPatience
	if !n.isDoor {
		patience = refusedPatienceCluster
	}
	patient, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	native, err = n.awaitListener(patient, next, err)
	if err != nil && patient.Err() != nil { // perhaps in the middle of an attempt
		n.lastDial.Store(&refused)
		if ctx.Err() == nil {
			return nil, refused // it was our patience that ended: go-redis is to try again, as it does not after a timeout
		}
	}
	return native, err
}

// rereadCluster has go-redis ask the Cluster who serves what, after a node could not be reached. By itself it asks
// when a node that it reaches sends it elsewhere, and else once a minute: for that long writes would go to a node that is
// dead, and that another has replaced.
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
		mine := &outage{over: make(chan struct{})}
		if n.outage.CompareAndSwap(nil, mine) {
			native, err = n.scout(ctx, next, err)
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
		}
		native, err = n.tryOnce(ctx, next)
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
		if native, err = n.tryOnce(ctx, next); !isRefused(err) {
			return native, err
		}
	}
}

// dialFunc is one attempt to open a connection.
type dialFunc func(context.Context) (net.Conn, error)

func isRefused(err error) bool { return err != nil && health.Classify(err).Kind == health.KindRefused }

// outage is a time in which the server refuses, with a scout out. over is closed when the scout is back.
type outage struct{ over chan struct{} }

func (n *node) tryOnce(ctx context.Context, next dialFunc) (net.Conn, error) {
	native, err := next(ctx)
	if err != nil {
		n.pool.met.dialErrors.Add(1)
		n.lastDial.Store(&err)
		n.pool.rereadCluster(ctx)
		return nil, err
	}
	n.lastDial.Store(nil)
	return native, nil
}

// awaitServer answers go-redis when it asks whether dialling works again, which it does after as many failures as the
// pool is large, refusing all further dials meanwhile. Left alone it asks once a second; this way it learns within
// some 100 ms. The dialling goroutine is go-redis' and ends with the pool's life, for which Stop waits.
func (n *node) awaitServer(next dialFunc) (net.Conn, error) {
	const patience = time.Minute // then go-redis may look whether its client was closed without us
	begun := monotime.Now()
	for delay := shortestPause; ; delay = min(2*delay, longestPause) {
		ctx, cancel := context.WithTimeout(n.pool.life, n.pool.cfg.DialTimeout)
		native, err := next(ctx)
		cancel()
		switch {
		case err == nil:
			return native, nil
		case n.pool.life.Err() != nil:
			return unconnected{}, nil //nolint:nilerr // an error would have go-redis sleep and ask again
		case monotime.Since(begun) > patience:
			return nil, err
		}
		pause := time.NewTimer(delay - time.Duration(rand.Float64()*float64(delay)/4))
		select {
		case <-pause.C:
		case <-n.pool.life.Done():
			pause.Stop()
		}
	}
}

// adopt puts a connection just dialled on the books. If the pool has stopped meanwhile, it closes it.
func (n *node) adopt(native net.Conn, p purpose, by *aim, born monotime.Time) (*conn, error) {
	c := newConn(n, native, p, by, born)
	if p == forSubscription {
		c.holder = new(holders.Entry)
		n.pool.held.Hold(c.holder, poolkeeper.KindPubSub)
	}
	n.mu.Lock()
	n.conns[c] = struct{}{}
	n.mu.Unlock()
	if p == forPool {
		if n.open.Add(1) > int64(n.pool.config().MaxOpen) {
			c.condemn(reload) // Reload has lowered the limit while it was dialled: it serves once
		}
		n.evictor.Wake()
	}
	if n.pool.life.Err() != nil {
		_ = c.Close()
		return nil, n.pool.refusal()
	}
	return c, nil
}

var errNotConnected = errors.New("redispool: not connected")

// unconnected is a connection to nowhere, for go-redis to close.
type unconnected struct{}

func (unconnected) Read([]byte) (int, error)         { return 0, errNotConnected }
func (unconnected) Write([]byte) (int, error)        { return 0, errNotConnected }
func (unconnected) Close() error                     { return nil }
func (unconnected) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (unconnected) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (unconnected) SetDeadline(time.Time) error      { return nil }
func (unconnected) SetReadDeadline(time.Time) error  { return nil }
func (unconnected) SetWriteDeadline(time.Time) error { return nil }
