package redispool

import (
	"sync"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/event"
	"github.com/poolkeeper/poolkeeper/internal/holders"
)

// Holders lists the current holders of connections, the oldest first. A Conn holds one from its
// first command until it is closed. A Watch holds one from WATCH to EXEC or UNWATCH. A subscription
// holds one from its dial until it is closed. Plain commands and pipelines are not listed. Holders
// does no I/O.
func (p *Pool) Holders() []poolkeeper.Holder {
	for _, n := range p.allNodes() {
		n.rotate(p.life)
	}
	return p.held.List()
}

// reportLeaks logs holds that have outlasted LeakThreshold; each comes here once. A subscription is
// meant to be held and is no leak.
func (p *Pool) reportLeaks(late []poolkeeper.Holder) {
	now := time.Now()
	still := map[time.Time]bool{} // a Conn may have been closed, and the pool has not noticed yet
	for _, h := range p.Holders() {
		still[h.Since] = true
	}
	for _, h := range late {
		if !still[h.Since] || h.Kind == poolkeeper.KindPubSub {
			continue
		}
		p.events.Emit(event.OfLeak(h, now, p.config().LeakThreshold))
		p.met.count(leaks)
	}
}

// session is a connection lent to one caller: a Conn, or the Tx of a Watch. go-redis builds three
// chains of hooks for it, for commands, for pipelines and for MULTI … EXEC, and nothing ties them
// together but the connection: each of them finds the session there (see link). go-redis says
// nothing when a session ends, so:
//
//   - a Watch holds from WATCH until EXEC or UNWATCH, one of which go-redis always sends; commands outside of that
//     count one by one, as the client's own do, but do not wait for a permit;
//   - a Conn holds from its first command until its connection is closed, or is handed out to
//     another caller. Under traffic that happens soon, and node.rotate makes it happen at once.
type session struct {
	node *node
	kind chainKind // chainConn or chainWatch

	mu     sync.Mutex // guards the following
	over   bool       // its connection is another caller's, or closed
	busy   int        // commands under way
	permit bool       // the session has a permit: a Conn until it is over, a Watch while it holds or is busy
	holds  bool       // counted by node.gate, listed in entry
	entry  holders.Entry
}

// use is one command of a session.
type use struct {
	session *session // nil: the session is over
	joined  bool     // the command counts by itself
}

// end says how a command of a session has ended.
type end struct {
	armed    bool // a watch is in force now
	disarmed bool // none is any more
}

// begin counts a command. It reports false if the session is over.
func (s *session) begin() (use, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return use{}, false
	}
	s.busy++
	joined := !s.holds
	if joined {
		s.node.gate.Join()
		if !s.permit {
			s.permit = true
			s.node.permits.acquireAnyway() // it has a connection already, and its owner may be waiting for this command
		}
	}
	return use{session: s, joined: joined}, true
}

// leave ends a command.
func (n *node) leave(u use, e end) {
	s := u.session
	if s == nil {
		n.dismiss()
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy--
	if s.kind == chainWatch {
		switch {
		case s.holds && e.disarmed:
			s.releaseLocked()
		case !s.holds && e.armed && !s.over:
			s.holdLocked(poolkeeper.KindWatch) // in place of the command
			u.joined = false
		}
	}
	if u.joined {
		n.gate.Leave()
	}
	if s.busy == 0 && !s.holds {
		s.returnLocked()
	}
}

// lost notes that the session's connection is no longer its own.
func (s *session) lost() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lostLocked()
}

func (s *session) lostLocked() {
	s.over = true
	if s.holds {
		s.releaseLocked()
	}
	if s.busy == 0 {
		s.returnLocked()
	}
}

// holdLocked lists the session. The gate was joined for it before.
func (s *session) holdLocked(kind string) {
	s.holds = true
	s.node.held.Add(1)
	s.node.pool.held.Hold(&s.entry, kind)
	if s.kind == chainConn {
		s.node.lent.Add(1)
	}
}

func (s *session) releaseLocked() {
	s.holds = false
	s.node.held.Add(-1)
	s.node.pool.held.Release(&s.entry)
	if s.kind == chainConn {
		s.node.lent.Add(-1)
	}
	s.node.gate.Leave()
}

func (s *session) returnLocked() {
	if s.permit {
		s.permit = false
		s.node.permits.release()
	}
}

// bind makes a connection just acquired the session's, or returns the session that has it. The
// caller has joined the gate and taken a permit, which a new session keeps.
func (n *node) bind(c *conn, kind chainKind) use {
	s := &session{node: n, kind: kind, busy: 1, permit: true}
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		known := c.lentTo.Load()
		if known != nil {
			if u, ok := known.begin(); ok {
				n.dismiss()
				return u
			}
		}
		if c.lentTo.CompareAndSwap(known, s) {
			break
		}
	}
	if kind == chainConn {
		s.holdLocked(poolkeeper.KindConn)
	}
	if c.gone.Load() && c.lentTo.CompareAndSwap(s, nil) {
		s.lostLocked()
	}
	return use{session: s, joined: kind == chainWatch}
}
