package redispool

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper/internal/socket"
)

// A generation is all connections dialled before some moment. After a failover behind the same name they lead to the
// wrong server; after a silent loss on the network (packets dropped, no FIN) they lead nowhere, and each caller would
// pay a timeout of his own to find out. So the first sign condemns them all: go-redis drops a condemned connection at
// its next checkout and dials anew, and the caller notices nothing.

const (
	// flushPause is the least time between two generations condemned because of what the server said. It doubles while
	// that does not help, up to flushPauseMax: a pool that is meant to read from a replica is not to dial for ever.
	flushPause    = time.Second
	flushPauseMax = time.Minute

	// silence is how long a command must have waited for its end by timeout to be a sign.
	silence = 50 * time.Millisecond
	// inspectPause is the least time between two inspections.
	inspectPause = 250 * time.Millisecond
	// inspectEvery is how often an inspection asks a server that does not answer, and inspectFor for how long.
	inspectEvery = 100 * time.Millisecond
	inspectFor   = time.Minute
	// inspectLimit bounds one question.
	inspectLimit = time.Second
	// grace is what answers get that overtake each other on different connections.
	grace = 50 * time.Millisecond
)

// heardError looks at an error reply for one that says that this is not, or not any more, the server to talk to.
func (n *node) heardError(c *conn, reply []byte) {
	if bytes.HasPrefix(reply, []byte("-READONLY ")) || bytes.HasPrefix(reply, []byte("-MASTERDOWN ")) ||
		bytes.HasPrefix(reply, []byte("-LOADING ")) {
		n.flushAfter(c.born)
	}
}

// heardErrors does the same for the commands of a pipeline, some of which may have got other answers. On which
// connection they have come is not known, so it is taken for a new one.
func (n *node) heardErrors(cmds []redis.Cmder) {
	for _, cmd := range cmds {
		err := cmd.Err()
		if err == nil || !isAnswer(err) {
			continue
		}
		switch code, _, _ := strings.Cut(err.Error(), " "); code {
		case "READONLY", "MASTERDOWN", "LOADING":
			n.flushAfter(time.Now())
			return
		}
	}
}

// flushAfter condemns every connection there is, because of what was heard on one of them. It does nothing if that is
// of a generation that is condemned already.
func (n *node) flushAfter(born time.Time) {
	now := time.Now()
	n.mu.Lock()
	since := now.Sub(n.flushed)
	if born.Before(n.flushed) || since < n.pause {
		n.mu.Unlock()
		return
	}
	if since < 10*n.pause {
		n.pause = min(2*n.pause, flushPauseMax)
	} else {
		n.pause = flushPause
	}
	n.flushed = now
	n.mu.Unlock()
	condemned := 0
	for _, old := range n.list() {
		if old.condemn(failover) {
			condemned++
		}
	}
	n.logGeneration("the server is no primary any more, or not yet", condemned, 0)
}

func (n *node) logGeneration(why string, condemned, cut int) {
	n.pool.logger().LogAttrs(n.pool.life, slog.LevelWarn, "redispool: connections are replaced",
		slog.String("pool", n.pool.poolName()), slog.String("node", n.addr()), slog.String("because", why),
		slog.Int("condemned", condemned), slog.Int("cut", cut))
}

// heardNothing begins an inspection after a command has waited in vain.
func (n *node) heardNothing(c *conn) {
	asked := c.used.Load()
	now := time.Now().UnixNano()
	if now-asked < int64(silence) || now-n.inspected.Load() < int64(inspectPause) ||
		!n.inspecting.CompareAndSwap(false, true) {
		return
	}
	if !n.pool.dialing.Enter() {
		n.inspecting.Store(false)
		return
	}
	// Owner: the pool. It ends with the pool's life, or when it has an answer or has lost patience; Stop waits for it
	// as for a dial.
	go func() {
		defer n.pool.dialing.Leave()
		defer n.inspecting.Store(false)
		n.inspect(n.pool.life, asked)
		n.inspected.Store(time.Now().UnixNano())
	}()
}

// inspect asks the server for a sign of life on a connection of its own until there is one. A Redis server answers in
// order of arrival. So once it has answered a question asked just now, a connection on which a command has been
// waiting since asked leads nowhere, and those not heard of since then are suspects.
func (n *node) inspect(ctx context.Context, asked int64) {
	ctx, cancel := context.WithTimeout(ctx, inspectFor)
	defer cancel()
	for {
		begun := time.Now()
		if n.answers(ctx) {
			if pause(ctx, grace) { // for answers that came before ours, and are on their way
				n.flushSilent(asked, begun)
			}
			return
		}
		if !pause(ctx, inspectEvery) {
			return
		}
	}
}

// pause reports false if ctx ended before d had passed.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// answers dials and asks, without logging in: any answer will do.
func (n *node) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, inspectLimit)
	defer cancel()
	o := n.client.Options()
	c, err := n.dial(ctx, forCheck, func(ctx context.Context) (net.Conn, error) { return o.Dialer(ctx, o.Network, o.Addr) })
	if err != nil {
		return false
	}
	defer func() { _ = c.Close() }()
	deadline, _ := ctx.Deadline()
	if err = c.SetDeadline(deadline); err != nil {
		return false
	}
	if _, err = c.Write([]byte("PING\r\n")); err != nil {
		return false
	}
	got, err := c.Read(make([]byte, 1))
	return err == nil && got > 0
}

// flushSilent condemns what was dialled before begun and not heard of since asked. What waits for the answer to an
// ordinary command is cut off, and go-redis tries that command again elsewhere.
func (n *node) flushSilent(asked int64, begun time.Time) {
	condemned, cut := 0, 0
	for _, c := range n.list() {
		heard := c.heard.Load()
		if heard >= asked || !c.born.Before(begun) {
			continue
		}
		if c.condemn(dead) {
			condemned++
		}
		if c.used.Load() < asked || heard != c.heard.Load() { // idle, or heard of just now
			continue
		}
		if c.patient.Load() {
			continue
		}
		if state, _ := socket.Peek(c.socket); state == socket.Silent || state == socket.Closed {
			c.cut()
			cut++
		}
	}
	if condemned > 0 {
		n.logGeneration("the server answers on new connections only", condemned, cut)
	}
}
