package redispool

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper/eviction"
	"github.com/poolkeeper/poolkeeper/internal/breaker"
	"github.com/poolkeeper/poolkeeper/internal/ctxmutex"
	"github.com/poolkeeper/poolkeeper/internal/inflight"
	"github.com/poolkeeper/poolkeeper/internal/retry"
	"github.com/poolkeeper/poolkeeper/internal/roundtrip"
)

// node is one native client with one pool of connections: the whole of a single-node or Sentinel
// pool, one of several of a Cluster.
type node struct {
	pool     *Pool
	client   *redis.Client
	gate     *inflight.Gate // commands under way and sessions that hold a connection: the demand
	ownsGate bool           // gate is the pool's own, and refuses when it is closed
	permits  *permits       // grants permits; the pool's own, which knows of pauses, where ownsGate
	evictor  *eviction.Evictor
	demand   demand

	own        *redis.Client          // the client without hooks, on the same connections: the pool's own use of them
	active     atomic.Pointer[hook]   // the one of our hooks that acts
	opener     atomic.Pointer[opener] // the one that opens connections; nil behind Sentinel
	opening    sync.Mutex             // serialises the additions of an opener
	hooksAdded atomic.Int64           // how often the client's own chain was built
	troubled   atomic.Bool            // the last outcome known was a failure of the connection
	breaker    *breaker.Breaker       // knows when the server is down
	link       roundtrip.Patience     // with the server
	watched    atomic.Bool            // a Watch has been used: go-redis does not say when one returns its connection
	outage     atomic.Pointer[outage] // nil: no caller waits for a server that refuses
	lastDial   atomic.Pointer[error]  // why the last dial failed; nil: it did not
	dialled    atomic.Int64           // a monotime.Time: when the last dial that got through began
	open       atomic.Int64           // connections of the pool
	dialsNow   atomic.Int64           // dials for the pool under way
	role       atomic.Int32           // of a Cluster's node, as it said last
	met        *metrics               // the pool's own where ownsGate
	acquired   odometer               // checkouts
	used       atomic.Bool            // a Cluster's node: it has had a command
	traffic    *traffic               // for its score; nil: the pool has no isolator

	startOnce sync.Once

	dialEntered chan struct{} // gets a token when a dial for the pool begins

	inspector inspector
	silent    atomic.Bool // the last inspection got no answer
	seekers   retry.Seekers

	upkeep           ctxmutex.Mutex                     // held while the pool borrows from itself
	acquiringIdle    atomic.Bool                        // the pool takes an idle connection: no checkout refuses one
	acquiringSession atomic.Int64                       // sessions that acquire their connection
	greeting         atomic.Int64                       // connections whose handshake may be under way
	onDial           atomic.Pointer[context.CancelFunc] // called when a dial for the pool begins
	purges           purges                             // of condemned connections

	held     atomic.Int64 // sessions that hold a connection
	lent     atomic.Int64 // Conns that hold a connection, some of them closed by now
	others   atomic.Bool  // there was a session of a kind that the stack does not tell
	noticing atomic.Bool  // a timer is set to look for these

	mu       sync.Mutex       // guards the following
	conns    map[uint64]*conn // by opening.serial
	disowned generations      // condemned because the server said that it is the wrong one
	broken   generations      // condemned because connections broke, and the server was gone
}

func newNode(p *Pool, client *redis.Client, gate *inflight.Gate) *node {
	n := &node{
		pool: p, client: client, gate: gate, ownsGate: gate == p.gate, permits: p.permits,
		dialEntered: make(chan struct{}, 1), upkeep: ctxmutex.New(),
		met: &p.met, conns: map[uint64]*conn{}, own: client.WithTimeout(p.cfg.ReadTimeout),
	}
	if !n.ownsGate {
		n.met = &metrics{all: &p.met}
		n.permits = &permits{met: n.met, stop: p.life.Done()}
	}
	if p.isolator != nil {
		n.traffic = new(traffic)
	}
	n.permits.gate = n.gate
	n.purges.node = n
	n.breaker = n.newBreaker()
	n.obeyLimit()
	n.evictor = eviction.New(n, p.policy())
	n.addHook()
	return n
}

// obeyLimit sets the number of permits.
func (n *node) obeyLimit() {
	limit := int64(n.pool.config().MaxOpen)
	n.permits.set(func(v *permits) { v.limit.Store(limit) })
}

// forget takes a connection that is being closed off the books.
func (n *node) forget(c *conn) {
	n.mu.Lock()
	delete(n.conns, c.start.serial)
	holder, wasFor := c.start.holder, c.is()
	n.mu.Unlock()
	if c.start.greeting.CompareAndSwap(true, false) {
		n.greeting.Add(-1)
	}
	if holder != nil {
		n.pool.held.Release(holder)
	}
	if s := c.lentTo.Swap(nil); s != nil {
		s.lost()
	}
	if wasFor != forPool {
		return
	}
	n.open.Add(-1)
	why := c.closeReason()
	switch {
	case why != stays:
	case n.pool.life.Err() != nil:
		why = closed
	default:
		why = dead
		n.purges.within(0) // others may have been closed with it
	}
	n.met.countEvicted(why)
	n.evictor.Wake()
}

// list returns the connections of go-redis' pool that are open now.
func (n *node) list() []*conn {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := make([]*conn, 0, len(n.conns))
	for _, c := range n.conns {
		if c.is() == forPool {
			out = append(out, c)
		}
	}
	return out
}

// cut closes all sockets, also those that commands are using.
func (n *node) cut() int {
	n.mu.Lock()
	all := make([]*conn, 0, len(n.conns))
	for _, c := range n.conns {
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
	_, err := askByCommand(withEnd(ctx), n.own.Process)
	return errors.Is(err, redis.ErrClosed)
}

func (n *node) connsOpen() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.conns)
}

// rotate has every idle connection handed out once, to the pool itself, without a byte on the wire.
// Conns that were closed are known as such afterwards. It takes microseconds, and so does not mind
// if ctx has ended. It waits only for a moment for a sweep under way.
func (n *node) rotate(ctx context.Context) {
	if n.lent.Load() == 0 {
		return
	}
	moment := time.NewTimer(pollInterval)
	defer moment.Stop()
	select {
	case n.upkeep <- struct{}{}:
	case <-moment.C:
		return
	}
	defer n.upkeep.Unlock()
	_, _ = n.visitIdle(context.WithoutCancel(ctx), func() bool { return n.lent.Load() > 0 }, func([]*idleConn) {})
}
