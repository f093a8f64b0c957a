package redispool

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/event"
	"github.com/poolkeeper/poolkeeper/internal/monotime"
	"github.com/poolkeeper/poolkeeper/internal/retry"
)

const (
	// inspectPause is the least time between two inspections.
	inspectPause = 250 * time.Millisecond
	// inspectEvery is how often an inspection asks a server that does not answer, and inspectFor
	// for how long.
	inspectEvery = 100 * time.Millisecond
	inspectFor   = time.Minute
	// inspectLimit is the least time for one question, with the dial.
	inspectLimit = time.Second
	// witnesses is how many idle connections are asked whether they are still alive.
	witnesses = 3
)

// suspectLimit is how long the server may take to answer on an idle connection when it has just
// answered on another.
func (n *node) suspectLimit() time.Duration { return n.link.Limit(n.pool.config().SuspectPing) }

// grace is the least silence of a command that is a sign, and what answers get that overtake each
// other on different connections: a round trip at least.
func (n *node) grace() time.Duration { return n.suspectLimit() / 4 }

// askLimit bounds one question.
func (n *node) askLimit() time.Duration { return max(inspectLimit, n.suspectLimit()) }

// inspector finds out whether connections are dead after a sign that they may be. A sign is a
// command that has waited in vain, or one whose connection broke. Either may concern that
// connection alone: an operator killed it, the server closed it as idle for too long, or the
// command was slow. So the inspector asks the server, on a new connection:
//
//	it refuses, or hangs up      after a break, the old connections are dead and condemned;
//	                             after silence, nothing is known yet, because the server may be
//	                             slow or full: the inspector asks again
//	it does not answer           nothing is known yet: the inspector asks again
//	it answers, after silence    a Redis server answers in order of arrival, so a connection
//	                             that waits for longer is dead. If none does, the inspector asks
//	                             a few idle connections. If one is dead, those silent for as long
//	                             are condemned
//	it answers, after a break    another machine may answer now: the inspector asks a few idle
//	                             connections. If one of them is dead too, those not heard of
//	                             since are condemned
//
// It proves nothing if no connection can be opened for reasons on our side (no ports, no
// descriptors, no certificate).
type inspector struct {
	mu      sync.Mutex // guards the following
	running bool
	ended   monotime.Time // of the last inspection
	signs   signs         // not yet looked into
}

// signs are what has been seen of connections that failed in use.
type signs struct {
	asked  monotime.Time // when the first command was sent that has waited in vain; 0: none
	broken bool          // a connection broke under a command, or under what blocks for longer
}

// note adds a sign and reports whether an inspection is to be begun.
func (i *inspector) note(s signs) (begin bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if s.asked != 0 && (i.signs.asked == 0 || s.asked < i.signs.asked) {
		i.signs.asked = s.asked
	}
	i.signs.broken = i.signs.broken || s.broken
	begin = !i.running
	i.running = true
	return begin
}

// take returns the signs, and forgets them: they have been looked into.
func (i *inspector) take() signs {
	i.mu.Lock()
	defer i.mu.Unlock()
	s := i.signs
	i.signs = signs{}
	return s
}

// takeBroken returns whether connections have broken, and forgets that.
func (i *inspector) takeBroken() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	was := i.signs.broken
	i.signs.broken = false
	return was
}

// quiet reports whether all signs have been looked into.
func (i *inspector) quiet() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.signs == signs{}
}

// rest ends an inspection and reports whether there are signs already for another.
func (i *inspector) rest() (again bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.ended = monotime.Now()
	i.running = i.signs != signs{}
	return i.running
}

// wait is how long it is until an inspection may begin.
func (i *inspector) wait() time.Duration {
	i.mu.Lock()
	defer i.mu.Unlock()
	return inspectPause - monotime.Since(i.ended)
}

// heardNothing notes that a command has waited in vain.
func (n *node) heardNothing(c *conn) {
	asked := monotime.Time(c.used.Load())
	if asked != 0 && monotime.Since(asked) >= n.grace() {
		n.suspect(c, signs{asked: asked})
	}
}

// failed notes that a connection has failed in use, by reading or writing.
func (n *node) failed(c *conn, err error) {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		n.heardNothing(c)
	case c.heard.Load() != 0: // one that breaks before it has served says nothing about those that did
		n.suspect(c, signs{broken: true})
	}
}

// noteSilent notes whether a new connection was answered. If not, another node of a Cluster may have
// taken over.
func (n *node) noteSilent(ctx context.Context, err error) {
	silent := ctx.Err() == nil && err != nil && Classify(err).Kind == health.KindTimeout
	n.silent.Store(silent)
	if silent {
		n.pool.rereadCluster(ctx)
	}
}

// errSilent is the answer of a node that has left a new connection without one.
var errSilent = errors.New("redispool: the node does not answer; another one is asked for the slots")

// slotsUnlessSilent returns next, but where go-redis asks for the slots of a Cluster, a silent node
// is not asked. go-redis asks one node after the other, and no caller's deadline bounds that: it
// would wait for ReadTimeout before it asks a node that answers.
func (n *node) slotsUnlessSilent(next redis.ProcessHook) redis.ProcessHook {
	if n.pool.target.kind != kindCluster {
		return next
	}
	return func(ctx context.Context, cmd redis.Cmder) error {
		if n.silent.Load() {
			if _, ok := loadsTopology(ctx, cmd); ok {
				cmd.SetErr(errSilent)
				return errSilent
			}
		}
		return next(ctx, cmd)
	}
}

// suspect has a sign looked into, unless it comes from a connection that is known to be lost.
func (n *node) suspect(c *conn, s signs) {
	if n.pool.config().SuspectPing == poolkeeper.Off || c.gone.Load() || c.closeReason() != stays || !n.inspector.note(s) {
		return
	}
	if !n.pool.dialing.Enter() {
		n.inspector.take()
		n.inspector.rest()
		return
	}
	// Owner: the pool. It ends with the pool's life, or when there are no signs left; Stop waits
	// for it as for a dial.
	go func() {
		defer n.pool.dialing.Leave()
		for again := true; again; again = n.inspector.rest() {
			var err error
			if d := n.inspector.wait(); d <= 0 || retry.Sleep(n.pool.life, d) {
				err = n.pool.events.Guarded(ownUse, func() error { n.inspect(n.pool.life); return nil })
			}
			if err != nil || n.pool.life.Err() != nil {
				n.inspector.take()
			}
		}
	}()
}

// inspect asks the server for a sign of life on a connection of its own, until it is known what the
// signs mean.
func (n *node) inspect(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, inspectFor)
	defer cancel()
	for {
		begun := monotime.Now()
		err := n.pingAnew(ctx)
		n.noteSilent(ctx, err)
		switch {
		case ctx.Err() != nil:
			n.inspector.take()
			return
		case err == nil:
			n.answered(ctx, begun, n.inspector.take())
			return
		case isEnd(err):
			if n.inspector.takeBroken() {
				n.flushBroken(begun, event.Broken)
			}
			if n.inspector.quiet() {
				return
			}
		}
		if !retry.Sleep(ctx, inspectEvery) {
			n.inspector.take() // it has been silent for so long that new signs will come, or the pool ends
			return
		}
	}
}

// answered condemns what the signs mean when the server has answered a question asked at begun.
func (n *node) answered(ctx context.Context, begun monotime.Time, s signs) {
	if s.asked != 0 {
		if !retry.Sleep(ctx, n.grace()) { // for answers that came before ours, and are on their way
			return
		}
		if n.waitsInVain(begun) || n.witnessDead(ctx, n.suspectLimit(), isLoss) {
			n.flushSilent(s.asked, begun)
		}
	}
	if s.broken && n.witnessDead(ctx, n.askLimit(), isEnd) {
		n.flushBroken(begun, event.BrokenOnly)
	}
}

// isEnd reports whether a failed attempt to reach the server says that it is gone, or its
// predecessor is.
func isEnd(err error) bool {
	k := Classify(err).Kind
	return k == health.KindRefused || k == health.KindReset
}

// isLoss reports whether an attempt on a connection opened before says that it is dead, if a new
// one is answered.
func isLoss(err error) bool { return isEnd(err) || Classify(err).Kind == health.KindTimeout }

// pingAnew dials and asks, without logging in: any answer will do.
func (n *node) pingAnew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, n.askLimit())
	defer cancel()
	c, err := n.dial(ctx, forInspection, n.dialNative)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	deadline, _ := ctx.Deadline()
	if err = c.SetDeadline(deadline); err != nil {
		return err
	}
	if _, err = c.Write([]byte("PING\r\n")); err != nil {
		return err
	}
	asked := monotime.Now()
	if _, err = c.Read(make([]byte, 1)); err == nil {
		n.link.Saw(monotime.Since(asked))
	}
	return err
}

// waitsInVain reports whether an ordinary command that was sent before begun is still without an
// answer, when a question asked later has got one.
func (n *node) waitsInVain(begun monotime.Time) bool {
	return slices.ContainsFunc(n.list(), func(c *conn) bool {
		used := c.used.Load()
		return used != c.heard.Load() && used < int64(begun) && c.heard.Load() > 0 && !c.patient.Load()
	})
}

// witnessDead asks some of the connections that were idle for longest for a sign of life, and
// reports whether one of them turns out to be dead without having looked so. Such an end comes from
// a machine that does not know the connection: one that was closed in order looks closed, and is
// not asked.
func (n *node) witnessDead(ctx context.Context, limit time.Duration, isDead func(error) bool) bool {
	if n.upkeep.Lock(ctx) != nil {
		return false
	}
	defer n.upkeep.Unlock()
	asked, err := n.visitIdle(ctx, nil, func(idle []*idleConn) {
		left := witnesses
		for _, l := range slices.Backward(idle) {
			if l.closeFor = l.conn.overdueReason(); l.closeFor == stays && left > 0 {
				l.ask = true
				left--
			}
		}
	})
	if err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return slices.ContainsFunc(n.ping(ctx, asked), func(err error) bool { return err != nil && isDead(err) })
}
