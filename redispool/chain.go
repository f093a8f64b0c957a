package redispool

import (
	"bytes"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// chainKind is what a chain of hooks is built for. go-redis builds the chain anew, in the caller's goroutine, for
// every Conn and Watch, for every handshake of a new connection, and when a hook is added.
type chainKind int

const (
	chainRoot      chainKind = iota // the client's own commands
	chainHandshake                  // HELLO, AUTH, SELECT on a connection just dialled
	chainConn                       // Client.Conn: a connection lent to one caller
	chainWatch                      // Client.Watch
	chainOwn                        // a connection that the pool itself borrows, to close it or to ask after it
)

const (
	goRedis   = "github.com/redis/go-redis/v9."
	ownPrefix = "github.com/poolkeeper/poolkeeper/redispool.(*node).borrow"
)

// perCommand reports whether go-redis builds the chain for one command only, which it does on the client itself, for
// its AutoPipeliner and for a Cluster's pipelines. It is asked for each of them, so it looks one frame up and
// remembers the answer.
func perCommand() bool {
	var pc [1]uintptr
	if runtime.Callers(3, pc[:]) == 0 {
		return false
	}
	if known, ok := perCommandCallers.Load(pc[0]); ok {
		return known == true
	}
	f, _ := runtime.CallersFrames(pc[:]).Next()
	is := strings.HasPrefix(f.Function, goRedis+"(*hooksMixin).withProcess")
	perCommandCallers.Store(pc[0], is)
	return is
}

// perCommandCallers remembers the answers of perCommand by program counter: there are four.
var perCommandCallers sync.Map //nolint:gochecknoglobals // a cache of constants

// chainKindOf tells from the caller's stack, innermost first, what the chain is built for. All names but initConn
// are of go-redis' public methods; if a release renamed initConn, TestHandshakeIsNotASession would fail.
func chainKindOf() chainKind {
	var pcs [24]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs[:])])
	for {
		f, more := frames.Next()
		name, ok := strings.CutPrefix(f.Function, goRedis)
		if ok {
			switch name {
			case "(*baseClient).initConn", "(*baseClient).reAuthConnection.func1":
				return chainHandshake
			case "(*hooksMixin).AddHook", "(*Client).WithTimeout":
				return chainRoot
			case "(*Client).Watch":
				return chainWatch
			case "(*Client).Conn", "(*Client).EphemeralConn":
				if by, _ := frames.Next(); strings.HasPrefix(by.Function, ownPrefix) {
					return chainOwn
				}
				return chainConn
			}
		}
		if !more {
			return chainRoot
		}
	}
}

// dialPurpose tells from the stack who dials.
func dialPurpose() purpose {
	var pcs [24]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs[:])])
	for {
		f, more := frames.Next()
		switch {
		case strings.HasSuffix(f.Function, "/internal/pool.(*PubSubPool).NewConn"):
			return forSubscription
		case strings.HasSuffix(f.Function, "/internal/pool.(*ConnPool).tryDial"):
			return forProbe
		case !more:
			return forPool
		}
	}
}

// chain is one chain being built: what ProcessHook has found out, for the two calls of ProcessPipelineHook that
// follow in the same goroutine.
type chain struct {
	kind    chainKind
	session *session // of chainConn and chainWatch
	calls   int      // of ProcessPipelineHook still to come
}

// beginChain is called by ProcessHook.
func (n *node) beginChain(next redis.ProcessHook) chain {
	c := chain{kind: chainKindOf(), calls: 2}
	switch c.kind {
	case chainConn, chainWatch:
		c.session = newSession(n, c.kind)
	case chainOwn:
		n.borrowed = next
	case chainRoot:
		n.root.Store(&next)
	case chainHandshake:
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.chains[goroutineID()] = c
	return c
}

// pipelineChain is called by ProcessPipelineHook. Without a ProcessHook before it the chain counts as the client's
// own, the harmless mistake: its commands are counted one by one.
func (n *node) pipelineChain() (c chain, last bool) {
	id := goroutineID()
	n.mu.Lock()
	defer n.mu.Unlock()
	c, ok := n.chains[id]
	if !ok {
		return chain{kind: chainRoot}, false
	}
	c.calls--
	if c.calls == 0 {
		delete(n.chains, id)
	} else {
		n.chains[id] = c
	}
	return c, c.calls == 0
}

// goroutineID is read from the head of a stack trace, as net/http2 does for its debugging. Nothing else ties together
// the calls by which go-redis builds one chain.
func goroutineID() uint64 {
	var buf [64]byte
	b := bytes.TrimPrefix(buf[:runtime.Stack(buf[:], false)], []byte("goroutine "))
	digits, _, _ := bytes.Cut(b, []byte(" "))
	id, err := strconv.ParseUint(string(digits), 10, 64)
	if err != nil {
		return 0
	}
	return id
}
