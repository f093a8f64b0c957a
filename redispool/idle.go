package redispool

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper/internal/retry"
)

// go-redis exports no access to its pool. But it lends connections: a Conn takes one out of the
// pool when it is first used, and puts it back when it is closed. The type idleConn is such a Conn,
// borrowed by the pool itself. go-redis hands out the connection that was used last (LIFO). So the
// pool has to borrow all idle connections to reach those that were idle for longest. That needs no
// I/O and takes some microseconds for each connection. While the last leftToCallers are borrowed, callers
// wait in the queue.

// errBusy says that callers acquired idle connections before the pool could borrow them.
var errBusy = errors.New("redispool: the pool's connections are wanted elsewhere")

// leftToCallers is how many idle connections are left to callers, so that they need not wait while the
// others are taken.
const leftToCallers = 32

// closedAtOnce is how many connections are closed before a pause of closePause.
const (
	closedAtOnce = 4
	closePause   = time.Millisecond
)

// idleConn is a connection that the pool itself has borrowed, without the client's hooks.
type idleConn struct {
	lent     *redis.Conn
	conn     *conn  // that it has got; nil: none yet
	closeFor reason // why it is to be closed; stays: it is put back
	released bool   // it has ended
	ask      bool   // it is to be asked for a sign of life, and not put back before
}

// newIdleConn returns one that has no connection yet. The caller must hold upkeep.
func (n *node) newIdleConn() *idleConn { return &idleConn{lent: n.own.Conn()} }

// release returns the borrowed connection, which is then idle and the one used last. It does
// nothing if the connection was returned or closed before.
func (l *idleConn) release() {
	if !l.released {
		l.released = true
		_ = l.lent.Close()
	}
}

// destroy closes the borrowed connection. It may block on the TLS close-notify.
func (l *idleConn) destroy(ctx context.Context) {
	l.conn.closeFor.CompareAndSwap(uint32(stays), uint32(l.closeFor))
	_ = l.conn.Close()
	_ = l.ping(ctx) // go-redis finds it closed, and drops it
	l.release()
}

// ping asks for a sign of life. go-redis drops a connection that gives none.
func (l *idleConn) ping(ctx context.Context) error {
	err := l.lent.Process(ctx, onceOnly{redis.NewStatusCmd(ctx, "ping")})
	if isForbidden(err) {
		return nil // on a connection that has logged in
	}
	return err
}

// acquireFor makes go-redis lend a connection, without I/O if one is idle.
func (n *node) acquireFor(ctx context.Context, l *idleConn) error {
	cmd := redis.NewStatusCmd(ctx, pingWords...)
	if err := l.lent.Process(ctx, onceOnly{cmd}); err != nil {
		return err
	}
	if l.conn = n.connOf(cmd.Val()); l.conn != nil {
		l.conn.settle()
	}
	return nil
}

// acquireIdle borrows the next idle connection, whatever its state. It does not check the connection,
// and does not count it as used. If it returns an error, for example errBusy, l has ended. The
// caller must hold upkeep.
//
// The pool cannot tell its own checkout from a caller's that comes at the same moment. So meanwhile
// none refuses a connection, and a caller's command looks at it when it is about to be written (see
// conn.writeFirst). That is too late for a session: if one is being acquired, go-redis checks the
// pool's connection too, and closes it if it is to be closed.
func (n *node) acquireIdle(ctx context.Context, l *idleConn) (err error) {
	taken := false
	defer func() { // also when code of the service panics
		n.acquiringIdle.Store(false)
		if !taken {
			l.release()
		}
	}()
	n.acquiringIdle.Store(n.pool.reduced == nil)
	if n.acquiringSession.Load() > 0 {
		n.acquiringIdle.Store(false)
	}
	if err = n.acquireFor(ctx, l); err != nil {
		return err
	}
	if l.conn == nil || l.conn.checkout == notCheckedOut {
		return errBusy // a caller was quicker, and go-redis has dialled
	}
	taken = true
	return nil
}

// visitIdle borrows the idle connections, lets judge decide about each, and puts back the rest. They
// keep their old order. judge gets the connection used last first. Callers wait meanwhile, so judge
// does no I/O. visitIdle closes the connections that judge condemned after the callers go on. The result
// holds the connections that judge marked to be asked; the caller must call release for each. If
// more is not nil and returns false, visitIdle stops borrowing early. If visitIdle cannot borrow all of them,
// it puts them back without calling judge. It also puts them back if code of the service panics.
// The caller must hold upkeep.
func (n *node) visitIdle(ctx context.Context, more func() bool, judge func(idle []*idleConn)) (asked []*idleConn, err error) {
	var idle []*idleConn
	finished := false
	err = n.pool.events.Guarded(ownUse, func() (err error) {
		asked, err = n.visitIdleInto(ctx, &idle, more, judge)
		finished = true
		return err
	})
	if !finished {
		for _, l := range slices.Backward(idle) {
			l.release()
		}
		n.holdCallers(false)
		return nil, err
	}
	return asked, err
}

// visitIdleInto does the work of visitIdle. It adds each connection to *taken as soon as it has borrowed it.
func (n *node) visitIdleInto(ctx context.Context, taken *[]*idleConn, more func() bool, judge func(idle []*idleConn)) (asked []*idleConn, err error) {
	unused := make([]*idleConn, n.idle())
	for i := range unused {
		unused[i] = n.newIdleConn() // before callers have to wait
	}
	err = n.acquireAllIdle(ctx, taken, unused, more)
	idle := *taken
	if n.client.Options().PoolFIFO {
		slices.Reverse(idle)
	}
	if err == nil {
		judge(idle)
	}
	back := 0
	for _, l := range slices.Backward(idle) {
		if l.closeFor == stays && !l.ask {
			l.release()
			if back++; back == leftToCallers {
				n.holdCallers(false)
			}
		}
	}
	n.holdCallers(false)
	destroyAll(ctx, slices.DeleteFunc(slices.Clone(idle), func(l *idleConn) bool { return l.closeFor == stays }))
	return slices.DeleteFunc(idle, func(l *idleConn) bool { return !l.ask }), err
}

// destroyAll closes connections, with pauses. A server needs some 50 µs to free one and answers no
// other client meanwhile.
func destroyAll(ctx context.Context, unused []*idleConn) {
	for i, l := range unused {
		if i%closedAtOnce == closedAtOnce-1 {
			retry.Sleep(ctx, closePause)
		}
		l.destroy(ctx)
	}
}

func (n *node) holdCallers(is bool) { n.permits.set(func(v *permits) { v.held = is }) }

// acquireAllIdle borrows the idle connections and adds them to *idle, in go-redis' order. It uses the
// prepared ones first and makes more as it needs them. It leaves callers held. It ends early
// when a caller has to dial: a dial may take long, and callers in the queue must not wait for it.
func (n *node) acquireAllIdle(ctx context.Context, idle *[]*idleConn, unused []*idleConn, more func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, n.pool.patience())
	defer cancel()
	n.onDial.Store(&cancel)
	defer n.onDial.Store(nil)
	isShut := false
	for more == nil || more() {
		spare := n.spare(len(*idle))
		if spare <= leftToCallers && !isShut {
			n.holdCallers(true)
			isShut = true
			n.awaitAdmitted(ctx, len(*idle))
			continue
		}
		if spare <= 0 {
			break
		}
		if len(unused) == 0 {
			unused = append(unused, n.newIdleConn())
		}
		if err := n.acquireIdle(ctx, unused[0]); err != nil {
			return err
		}
		*idle, unused = append(*idle, unused[0]), unused[1:]
	}
	return nil
}

// awaitAdmitted waits until callers that have passed the queue have their connections. Usually they
// have them already. It does not wait for a caller that is dialling.
func (n *node) awaitAdmitted(ctx context.Context, taken int) {
	retry.Briefly(ctx, func() bool {
		s := n.client.PoolStats()
		return s.IdleConns == 0 || n.unserved(s, taken) == 0
	})
}

// unserved counts callers that have passed the queue and have no connection yet. taken is how many
// connections the pool has borrowed. A closed Conn that still counts would look like such a caller.
func (n *node) unserved(s *redis.PoolStats, taken int) int {
	inUse := int(s.TotalConns) - int(s.IdleConns) - taken
	return max(int(n.permits.busy.Load())-int(n.lent.Load())-inUse, 0)
}

// spare counts the idle connections that no admitted caller is about to acquire. taken is how many
// connections the pool has borrowed.
func (n *node) spare(taken int) int {
	s := n.client.PoolStats()
	return int(s.IdleConns) - n.unserved(s, taken)
}

// idle is the number of idle connections.
func (n *node) idle() int { return int(n.client.PoolStats().IdleConns) }
