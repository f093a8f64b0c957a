package redispool

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper/internal/goroutines"
	"github.com/poolkeeper/poolkeeper/internal/retry"
)

// go-redis exports no access to its pool. But it lends connections: a Conn takes one out of the
// pool when it is first used, and puts it back when it is closed. A loan is such a Conn, taken by
// the pool itself. go-redis hands out the connection that was used last (LIFO), so to get at those
// that were idle for longest, all that are idle have to be taken. That is done without I/O, some
// microseconds for each connection. While the last inReach are out callers wait at the valve.

// errBusy says that not everything that is idle could be taken, because callers were quicker.
var errBusy = errors.New("redispool: the pool's connections are wanted elsewhere")

// inReach is how many idle connections are left to callers, so that they need not wait while the
// others are taken.
const inReach = 32

// closedAtOnce is how many connections are closed before a pause of closePause.
const (
	closedAtOnce = 4
	closePause   = time.Millisecond
)

// loan is a connection lent to the pool itself.
type loan struct {
	lent *redis.Conn
	base redis.ProcessHook // sends a command on it
	conn *conn             // that it has got; nil: none yet
	fate reason            // why it is to be closed; stays: it is put back
	over bool              // it has ended
	ask  bool              // it is to be asked for a sign of life, and not put back before
}

// borrow returns a loan that has no connection yet. It needs the turn of upkeep.
func (n *node) borrow() *loan {
	n.borrower.Store(goroutines.ID())
	defer n.borrower.Store(0)
	lent := n.client.Conn() // our hook stores the end of its chain
	return &loan{lent: lent, base: n.borrowed}
}

// giveBack ends a loan: its connection is idle again, the one used last. It does nothing if the
// loan has ended.
func (l *loan) giveBack() {
	if !l.over {
		l.over = true
		_ = l.lent.Close()
	}
}

// discard ends a loan and closes its connection. It blocks on the farewell of TLS at most.
func (l *loan) discard(ctx context.Context) {
	l.conn.sentence.CompareAndSwap(uint32(stays), uint32(l.fate))
	_ = l.conn.Close()
	_ = l.ping(ctx) // go-redis finds it closed, and drops it
	l.giveBack()
}

// ping asks for a sign of life. go-redis drops a connection that gives none.
func (l *loan) ping(ctx context.Context) error {
	err := l.base(ctx, onceOnly{redis.NewStatusCmd(ctx, "ping")})
	if isForbidden(err) {
		return nil // on a connection that has logged in
	}
	return err
}

// seizeIdle takes the idle connection that is next, whatever its state: nobody looks at it, and it
// does not count as used. If it returns an error, of which errBusy is one, the loan has ended. It
// needs the turn of upkeep.
func (n *node) seizeIdle(ctx context.Context, l *loan) (err error) {
	seized := false
	defer func() { // also when a hook of the service panics
		n.taker.Store(0)
		if !seized {
			l.giveBack()
		}
	}()
	n.taken = nil
	n.taker.Store(goroutines.ID())
	err = seize(ctx, l.base)
	if n.taken != nil {
		n.taken.used.Store(n.takenUsed)
		l.conn = n.taken
	} else if err == nil {
		err = errBusy // a caller was quicker, and go-redis has dialled
	}
	seized = err == nil
	return err
}

// isTaken reports, at a checkout of c, whether it is seizeIdle's.
func (n *node) isTaken(c *conn) bool {
	if by := n.taker.Load(); by == 0 || by != goroutines.ID() {
		return false
	}
	n.taken, n.takenUsed = c, c.used.Load()
	return true
}

// sift takes out what is idle, has judge say what is to become of it, and puts back what stays, in
// the order in which it was. judge gets the connection used last first, with callers waiting: it
// does no I/O. What it condemns is closed when they go on; what it wants asked is returned, and the
// caller owes a giveBack for each. more, if it is not nil, ends the taking early. If not all could
// be taken, judge is not called and all is put back, as it is if code of the service panics. sift
// needs the turn of upkeep.
func (n *node) sift(ctx context.Context, more func() bool, judge func(idle []*loan)) (asked []*loan, err error) {
	var idle []*loan
	finished := false
	err = n.pool.guarded(ownUse, func() (err error) {
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

// siftInto is sift. What it has taken is in *taken as soon as it has it.
func (n *node) siftInto(ctx context.Context, taken *[]*loan, more func() bool, judge func(idle []*loan)) (asked []*loan, err error) {
	loans := make([]*loan, n.idle())
	for i := range loans {
		loans[i] = n.borrow() // before callers have to wait
	}
	err = n.take(ctx, taken, loans, more)
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

// discard closes connections. While a server frees one, which takes some 50 µs, it answers nobody,
// so there are pauses.
func discard(ctx context.Context, loans []*loan) {
	for i, l := range loans {
		if i%closedAtOnce == closedAtOnce-1 {
			retry.Sleep(ctx, closePause)
		}
		l.discard(ctx)
	}
}

func (n *node) shut(is bool) { n.valve.set(func(v *valve) { v.shut = is }) }

// take adds what is idle to *idle, in go-redis' order, with loans that are prepared and as many
// more as it needs. It leaves the valve shut. It ends early when somebody has to dial: that may
// take long, and those who wait at the valve shall not wait for it.
func (n *node) take(ctx context.Context, idle *[]*loan, loans []*loan, more func() bool) error {
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
		if err := n.seizeIdle(ctx, loans[0]); err != nil {
			return err
		}
		*idle, loans = append(*idle, loans[0]), loans[1:]
	}
	return nil
}

// awaitAdmitted waits until those who have passed the valve have got their connections. Usually
// they have; somebody who is dialling is not waited for.
func (n *node) awaitAdmitted(ctx context.Context, taken int) {
	retry.Briefly(ctx, func() bool {
		s := n.client.PoolStats()
		return s.IdleConns == 0 || n.unserved(s, taken) == 0
	})
}

// unserved is how many have passed the valve and have no connection yet, when that many are taken.
// Conns that were closed and still count would look like that.
func (n *node) unserved(s *redis.PoolStats, taken int) int {
	inUse := int(s.TotalConns) - int(s.IdleConns) - taken
	return max(int(n.valve.busy.Load())-int(n.lent.Load())-inUse, 0)
}

// spare is how many idle connections there are beside those that somebody is about to get, when
// that many are taken.
func (n *node) spare(taken int) int {
	s := n.client.PoolStats()
	return int(s.IdleConns) - n.unserved(s, taken)
}

// idle is how many connections nobody holds.
func (n *node) idle() int { return int(n.client.PoolStats().IdleConns) }
