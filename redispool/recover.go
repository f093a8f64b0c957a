package redispool

import (
	"bytes"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper/internal/event"
	"github.com/poolkeeper/poolkeeper/internal/monotime"
	"github.com/poolkeeper/poolkeeper/internal/socket"
)

// A generation is all connections dialled before some moment. After a failover behind the same name
// they lead to the wrong server. After a server has gone, or a silent loss on the network (packets
// dropped, no FIN), they lead nowhere. Each caller would then pay an attempt or a timeout of its
// own to find out. So the first sure sign condemns them all. go-redis drops a condemned connection
// at its next checkout and dials anew, and the caller notices nothing. An answer that names the
// wrong server is such a sign by itself; a connection that fails is looked into first (see
// inspector).

const (
	// flushPause is the least time between two generations condemned because of what was heard. It
	// doubles while that does not help, up to flushPauseMax: a pool that is meant to read from a
	// replica is not to dial for ever.
	flushPause    = time.Second
	flushPauseMax = time.Minute
)

// generations says when the last one was condemned for one kind of sign, and when the next may be.
// It is guarded by the node's mutex.
type generations struct {
	flushed monotime.Time // 0: never
	pause   time.Duration
	found   bool // a seeker has found the promoted server since
}

// nextLocked reports whether a generation may be condemned now, and if so notes that it is.
func (g *generations) nextLocked(now monotime.Time) bool {
	since := now.Sub(g.flushed)
	if since < g.pause {
		return false
	}
	if since < 10*g.pause {
		g.pause = min(2*g.pause, flushPauseMax)
	} else {
		g.pause = flushPause
	}
	g.flushed, g.found = now, false
	return true
}

// heardError looks at an error reply for one that says that this is not, or not any more, the
// server to talk to.
func (n *node) heardError(c *conn, reply []byte) {
	if bytes.HasPrefix(reply, []byte("-READONLY ")) || bytes.HasPrefix(reply, []byte("-MASTERDOWN ")) ||
		bytes.HasPrefix(reply, []byte("-LOADING ")) {
		n.flushAfter(c.born, c)
	}
}

// heardErrors does the same for the commands of a pipeline, some of which may have got other
// answers. On which connection they have come is not known, so it is taken for a new one.
func (n *node) heardErrors(cmds []redis.Cmder) {
	for _, cmd := range cmds {
		err := cmd.Err()
		if err == nil || !isAnswer(err) {
			continue
		}
		switch code, _, _ := strings.Cut(err.Error(), " "); code {
		case "READONLY", "MASTERDOWN", "LOADING":
			n.flushAfter(monotime.Now(), nil)
			return
		}
	}
}

// flushAfter condemns every connection there is, because of an answer on one of them that was
// dialled at born. If that one is of a generation that is condemned already, it condemns it alone:
// its dial was under way at the time. source is nil if it is not known. While no generation may be
// condemned, seekers look for the promoted server.
func (n *node) flushAfter(born monotime.Time, source *conn) {
	now := monotime.Now()
	n.mu.Lock()
	isOld := born < n.disowned.flushed
	next := !isOld && n.disowned.nextLocked(now)
	seek := !isOld && !next && !n.disowned.found
	n.mu.Unlock()
	if seek {
		n.sendSeeker()
	}
	if isOld && source != nil {
		source.condemn(failover)
	}
	if !next {
		return
	}
	condemned := 0
	for _, old := range n.list() {
		if old.condemn(failover) {
			condemned++
		}
	}
	n.reset(event.Demoted, condemned, 0)
}

// flushBroken condemns what was dialled before begun and not heard of since. It is limited as the
// other generations are: behind a name that stands for several servers, of which one is broken,
// nothing else would help but patience.
func (n *node) flushBroken(begun monotime.Time, why string) {
	n.mu.Lock()
	next := n.broken.nextLocked(monotime.Now())
	n.mu.Unlock()
	if !next {
		return
	}
	condemned := 0
	for _, c := range n.list() {
		if c.heard.Load() < int64(begun) && c.born < begun && c.condemn(dead) {
			condemned++
		}
	}
	if condemned > 0 {
		n.reset(why, condemned, 0)
	}
}

// flushSilent condemns what was dialled before begun and not heard of since asked. What waits for
// the answer to an ordinary command is cut off, and go-redis tries that command again elsewhere.
func (n *node) flushSilent(asked, begun monotime.Time) {
	condemned, cut := 0, 0
	for _, c := range n.list() {
		heard := c.heard.Load()
		if heard >= int64(asked) || c.born >= begun {
			continue
		}
		if c.condemn(dead) {
			condemned++
		}
		if c.used.Load() < int64(asked) || heard != c.heard.Load() { // idle, or heard of just now
			continue
		}
		if c.patient.Load() {
			continue
		}
		if state, _ := socket.PeekRaw(c.raw); state == socket.Silent || state == socket.Closed {
			c.cut()
			cut++
		}
	}
	if condemned > 0 {
		n.link.Condemned()
		n.reset(event.SilentOnly, condemned, cut)
	}
}
