package redispool

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/eviction"
	"github.com/poolkeeper/poolkeeper/internal/holders"
	"github.com/poolkeeper/poolkeeper/internal/inflight"
)

// node is one native client with one pool of connections: the whole of a single-node or Sentinel pool, one of
// several of a Cluster.
type node struct {
	pool    *Pool
	client  *redis.Client
	gate    *inflight.Gate // commands under way and sessions that hold a connection: the demand
	isDoor  bool           // gate is the pool's own, and refuses when it is closed
	evictor *eviction.Evictor

	active   atomic.Pointer[hook]  // the one of our hooks that acts
	troubled atomic.Bool           // the last outcome known was a failure of the connection
	lastDial atomic.Pointer[error] // why the last dial failed; nil: it did not
	open     atomic.Int64          // connections of the pool
	used     atomic.Bool           // a Cluster's node: it has had a command

	root      atomic.Pointer[redis.ProcessHook] // the end of the client's own chain
	startOnce sync.Once

	credit      atomic.Int64  // connections that a sweep is just closing as idle
	dialEntered chan struct{} // gets a token when a dial for the pool begins

	upkeep   chan struct{}     // holds a token while the pool borrows from itself; guards borrowed
	borrowed redis.ProcessHook // the end of the chain of the last loan

	lent    atomic.Int64 // Conns that hold a connection, some of them closed by now
	seeking atomic.Int64 // how many seekers there are

	mu      sync.Mutex // guards the following
	conns   map[*conn]struct{}
	chains  map[uint64]chain    // being built, by goroutine
	seekers map[uint64]*session // Conns in their first command, by goroutine
}

func newNode(p *Pool, client *redis.Client, gate *inflight.Gate) *node {
	n := &node{
		pool: p, client: client, gate: gate, isDoor: gate == p.gate,
		dialEntered: make(chan struct{}, 1),
		upkeep:      make(chan struct{}, 1),
		conns:       map[*conn]struct{}{}, chains: map[uint64]chain{}, seekers: map[uint64]*session{},
	}
	n.evictor = eviction.New(n, p.policy())
	n.addHook()
	return n
}

// enter begins a command of the client itself. The commands of a Cluster's node were let in by the door.
func (n *node) enter() bool {
	if n.isDoor {
		return n.gate.Enter()
	}
	if !n.used.Load() {
		n.used.Store(true)
	}
	n.gate.Join()
	return true
}

// dial opens a connection by next and keeps it on the books. It ends when ctx ends or the pool stops (INV-10).
func (n *node) dial(ctx context.Context, p purpose, next func(context.Context) (net.Conn, error)) (net.Conn, error) {
	if !n.pool.dialing.Enter() {
		if p == forProbe {
			return unconnected{}, nil // ends go-redis' loop; an error would have it sleep and ask again
		}
		return nil, n.pool.refusal()
	}
	defer n.pool.dialing.Leave()
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
	}

	start := time.Now()
	native, err := next(ctx)
	if err != nil {
		n.pool.met.dialErrors.Add(1)
		n.lastDial.Store(&err)
		return nil, err
	}
	n.lastDial.Store(nil)
	n.pool.met.dials.Add(1)
	n.pool.met.dial.Record(time.Since(start))
	return n.adopt(native, p)
}

// awaitServer answers go-redis when it asks whether dialling works again, which it does after as many failures as the
// pool is large, refusing all further dials meanwhile. Left alone it asks once a second; this way it learns within
// some 100 ms. The dialling goroutine is go-redis' and ends with the pool's life, for which Stop waits.
func (n *node) awaitServer(next func(context.Context) (net.Conn, error)) (net.Conn, error) {
	const (
		shortest = 20 * time.Millisecond
		longest  = 100 * time.Millisecond
		patience = time.Minute // then go-redis may look whether its client was closed without us
	)
	begun := time.Now()
	for delay := shortest; ; delay = min(2*delay, longest) {
		ctx, cancel := context.WithTimeout(n.pool.life, n.pool.cfg.DialTimeout)
		native, err := next(ctx)
		cancel()
		switch {
		case err == nil:
			return native, nil
		case n.pool.life.Err() != nil:
			return unconnected{}, nil //nolint:nilerr // an error would have go-redis sleep and ask again
		case time.Since(begun) > patience:
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
func (n *node) adopt(native net.Conn, p purpose) (net.Conn, error) {
	c := newConn(n, native, p)
	if p == forSubscription {
		c.holder = new(holders.Entry)
		n.pool.held.Hold(c.holder, poolkeeper.KindPubSub, 0)
	}
	n.mu.Lock()
	n.conns[c] = struct{}{}
	n.mu.Unlock()
	if p == forPool {
		n.open.Add(1)
		n.evictor.Wake()
	}
	if n.pool.life.Err() != nil {
		_ = c.Close()
		return nil, n.pool.refusal()
	}
	return c, nil
}

// forget takes a connection that is being closed off the books.
func (n *node) forget(c *conn) {
	n.mu.Lock()
	delete(n.conns, c)
	n.mu.Unlock()
	if c.holder != nil {
		n.pool.held.Release(c.holder)
	}
	if s := c.lentTo.Swap(nil); s != nil {
		s.lost(c)
	}
	if c.purpose != forPool {
		return
	}
	n.open.Add(-1)
	why := reason(c.sentence.Load())
	switch {
	case why != stays:
	case n.pool.life.Err() != nil:
		why = closed
	case n.spendCredit():
		why = idle
	default:
		why = dead
	}
	n.pool.met.evicted[why].Add(1)
	n.evictor.Wake()
}

func (n *node) spendCredit() bool {
	for {
		v := n.credit.Load()
		if v == 0 {
			return false
		}
		if n.credit.CompareAndSwap(v, v-1) {
			return true
		}
	}
}

// list returns the connections with the purpose that are open now.
func (n *node) list(p purpose) []*conn {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := make([]*conn, 0, len(n.conns))
	for c := range n.conns {
		if c.purpose == p {
			out = append(out, c)
		}
	}
	return out
}

// cut closes all sockets under whoever uses them.
func (n *node) cut() int {
	n.mu.Lock()
	all := make([]*conn, 0, len(n.conns))
	for c := range n.conns {
		all = append(all, c)
	}
	n.mu.Unlock()
	for _, c := range all {
		c.cut()
	}
	return len(all)
}

// clientClosed reports whether go-redis has closed the client. It asks without I/O.
func (n *node) clientClosed(ctx context.Context) bool {
	root := n.root.Load()
	return root != nil && errors.Is(seize(withEnd(ctx), *root), redis.ErrClosed)
}

func (n *node) connsOpen() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.conns)
}

// seek has the connection that this goroutine writes to next known as the session's.
func (n *node) seek(s *session) {
	id := goroutineID()
	n.mu.Lock()
	n.seekers[id] = s
	n.mu.Unlock()
	n.seeking.Add(1)
}

// unseek ends a seek of this goroutine that has found nothing.
func (n *node) unseek() *session {
	id := goroutineID()
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.seekers[id]
	if s != nil {
		delete(n.seekers, id)
		n.seeking.Add(-1)
	}
	return s
}

// rotate has every idle connection handed out once, to the pool itself, without a byte on the wire. Conns that were
// closed are known as such afterwards. It does nothing while a sweep is under way. It takes microseconds, and so does not
// mind if ctx has ended.
func (n *node) rotate(ctx context.Context) {
	if n.lent.Load() == 0 {
		return
	}
	select {
	case n.upkeep <- struct{}{}:
	default:
		return
	}
	defer func() { <-n.upkeep }()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cutGrace)
	defer cancel()
	for left := n.idle(); left > 0 && n.lent.Load() > 0 && n.idle() > 0; left-- {
		one := n.borrow(false)
		err := one.seize(ctx)
		one.Close()
		if err != nil {
			return
		}
	}
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
