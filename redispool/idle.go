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
// pool when it is first used, and puts it back when it is closed. The type loan is such a Conn,
// borrowed by the pool itself. go-redis hands out the connection that was used last (LIFO). So the
// pool has to borrow all idle connections to reach those that were idle for longest. That needs no
// I/O and takes some microseconds for each connection. While the last inReach are borrowed, callers
// wait at the valve.

// errBusy says that callers acquired idle connections before the pool could borrow them.
var errBusy = errors.New("redispool: the pool's connections are wanted elsewhere")

// inReach is how many idle connections are left to callers, so that they need not wait while the
// others are taken.
const inReach = 32

// closedAtOnce is how many connections are closed before a pause of closePause.
const (
	closedAtOnce = 4
	closePause   = time.Millisecond
)

// loan is a connection that the pool itself has borrowed, without the client's hooks.
type loan struct {
	lent *redis.Conn
	conn *conn  // that it has got; nil: none yet
	fate reason // why it is to be closed; stays: it is put back
	over bool   // it has ended
	ask  bool   // it is to be asked for a sign of life, and not put back before
}

// borrow returns a loan that has no connection yet. The caller must hold upkeep.
func (n *node) borrow() *loan { return &loan{lent: n.own.Conn()} }

// giveBack returns the borrowed connection, which is then idle and the one used last. It does
// nothing if the connection was returned or closed before.
func (l *loan) giveBack() {
	if !l.over {
		l.over = true
		_ = l.lent.Close()
	}
}

// discard closes the borrowed connection. It may block on the TLS close-notify.
func (l *loan) discard(ctx context.Context) {
	l.conn.sentence.CompareAndSwap(uint32(stays), uint32(l.fate))
	_ = l.conn.Close()
	_ = l.ping(ctx) // go-redis finds it closed, and drops it
	l.giveBack()
}

// ping asks for a sign of life. go-redis drops a connection that gives none.
func (l *loan) ping(ctx context.Context) error {
	err := l.lent.Process(ctx, onceOnly{redis.NewStatusCmd(ctx, "ping")})
	if isForbidden(err) {
		return nil // on a connection that has logged in
	}
	return err
}

// take makes go-redis lend a connection, without I/O if one is idle.
func (n *node) take(ctx context.Context, l *loan) error {
	cmd := redis.NewStatusCmd(ctx, pingWords...)
	if err := l.lent.Process(ctx, onceOnly{cmd}); err != nil {
		return err
	}
	if l.conn = n.connOf(cmd.Val()); l.conn != nil {
		l.conn.settle()
	}
	return nil
}

// takeIdle borrows the next idle connection, whatever its state. It does not check the connection,
// and does not count it as used. If it returns an error, for example errBusy, l has ended. The
// caller must hold upkeep.
//
// The pool cannot tell its own checkout from a caller's that comes at the same moment. So meanwhile
// none refuses a connection, and a caller's command looks at it when it is about to be written (see
// conn.writeFirst). That is too late for a session: if one is being acquired, go-redis checks the
// pool's connection too, and closes it if it is to be closed.
func (n *node) takeIdle(ctx context.Context, l *loan) (err error) {
	taken := false
	defer func() { // also when code of the service panics
		n.taking.Store(false)
		if !taken {
			l.giveBack()
		}
	}()
	n.taking.Store(n.pool.reduced == nil)
	if n.acquiring.Load() > 0 {
		n.taking.Store(false)
	}
	if err = n.take(ctx, l); err != nil {
		return err
	}
	if l.conn == nil || l.conn.checkout == notCheckedOut {
		return errBusy // a caller was quicker, and go-redis has dialled
	}
	taken = true
	return nil
}

// sift borrows the idle connections, lets judge decide about each, and puts back the rest. They
// keep their old order. judge gets the connection used last first. Callers wait meanwhile, so judge
// does no I/O. sift closes the connections that judge condemned after the callers go on. The result
// holds the connections that judge marked to be asked; the caller must call giveBack for each. If
// more is not nil and returns false, sift stops borrowing early. If sift cannot borrow all of them,
// it puts them back without calling judge. It also puts them back if code of the service panics.
// The caller must hold upkeep.
func (n *node) sift(ctx context.Context, more func() bool, judge func(idle []*loan)) (asked []*loan, err error) {
	var idle []*loan
	finished := false
	err = n.pool.events.Guarded(ownUse, func() (err error) {
		asked, err = n.siftInto(ctx, &idle, more, judge)
		finished = true
		return err
	})
	if !finished {
		for _, l := range slices.Backward(idle) {
			l.giveBack()
		}
		n.shut(false)
		return nil, err
	}
	return asked, err
}

// siftInto does the work of sift. It adds each connection to *taken as soon as it has borrowed it.
func (n *node) siftInto(ctx context.Context, taken *[]*loan, more func() bool, judge func(idle []*loan)) (asked []*loan, err error) {
	loans := make([]*loan, n.idle())
	for i := range loans {
		loans[i] = n.borrow() // before callers have to wait
	}
	err = n.takeAll(ctx, taken, loans, more)
	idle := *taken
	if n.client.Options().PoolFIFO {
		slices.Reverse(idle)
	}
	if err == nil {
		judge(idle)
	}
	back := 0
	for _, l := range slices.Backward(idle) {
		if l.fate == stays && !l.ask {
			l.giveBack()
			if back++; back == inReach {
				n.shut(false)
			}
		}
	}
	n.shut(false)
	discard(ctx, slices.DeleteFunc(slices.Clone(idle), func(l *loan) bool { return l.fate == stays }))
	return slices.DeleteFunc(idle, func(l *loan) bool { return !l.ask }), err
}

// discard closes connections, with pauses. A server needs some 50 µs to free one and answers no
// other client meanwhile.
func discard(ctx context.Context, loans []*loan) {
	for i, l := range loans {
		if i%closedAtOnce == closedAtOnce-1 {
			retry.Sleep(ctx, closePause)
		}
		l.discard(ctx)
	}
}

func (n *node) shut(is bool) { n.valve.set(func(v *valve) { v.shut = is }) }

// takeAll borrows the idle connections and adds them to *idle, in go-redis' order. It uses the
// prepared loans first and makes more as it needs them. It leaves the valve shut. It ends early
// when a caller has to dial: a dial may take long, and callers at the valve must not wait for it.
func (n *node) takeAll(ctx context.Context, idle *[]*loan, loans []*loan, more func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, n.pool.patience())
	defer cancel()
	n.onDial.Store(&cancel)
	defer n.onDial.Store(nil)
	isShut := false
	for more == nil || more() {
		spare := n.spare(len(*idle))
		if spare <= inReach && !isShut {
			n.shut(true)
			isShut = true
			n.awaitAdmitted(ctx, len(*idle))
			continue
		}
		if spare <= 0 {
			break
		}
		if len(loans) == 0 {
			loans = append(loans, n.borrow())
		}
		if err := n.takeIdle(ctx, loans[0]); err != nil {
			return err
		}
		*idle, loans = append(*idle, loans[0]), loans[1:]
	}
	return nil
}

// awaitAdmitted waits until callers that have passed the valve have their connections. Usually they
// have them already. It does not wait for a caller that is dialling.
func (n *node) awaitAdmitted(ctx context.Context, taken int) {
	retry.Briefly(ctx, func() bool {
		s := n.client.PoolStats()
		return s.IdleConns == 0 || n.unserved(s, taken) == 0
	})
}

// unserved counts callers that have passed the valve and have no connection yet. taken is how many
// connections the pool has borrowed. A closed Conn that still counts would look like such a caller.
func (n *node) unserved(s *redis.PoolStats, taken int) int {
	inUse := int(s.TotalConns) - int(s.IdleConns) - taken
	return max(int(n.valve.busy.Load())-int(n.lent.Load())-inUse, 0)
}

// spare counts the idle connections that no admitted caller is about to acquire. taken is how many
// connections the pool has borrowed.
func (n *node) spare(taken int) int {
	s := n.client.PoolStats()
	return int(s.IdleConns) - n.unserved(s, taken)
}

// idle is the number of idle connections.
func (n *node) idle() int { return int(n.client.PoolStats().IdleConns) }
