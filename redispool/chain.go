package redispool

import (
	"runtime"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper/internal/goroutines"
)

// chainKind is what a chain of hooks is built for. go-redis builds the chain anew, in the caller's
// goroutine, for every Conn and Watch, for every handshake of a new connection, and when a hook is
// added.
type chainKind int

const (
	chainUnknown    chainKind = iota // of one frame: look further
	chainRoot                        // the client's own commands
	chainPerCommand                  // the same, built for one command only: on the client itself, for its AutoPipeliner, for a Cluster's pipelines
	chainHandshake                   // HELLO, AUTH, SELECT on a connection just dialled
	chainConn                        // Client.Conn: a connection lent to one caller
	chainWatch                       // Client.Watch
	chainOwn                         // a connection that the pool itself borrows, to close it or to ask after it
)

const goRedis = "github.com/redis/go-redis/v9."

// chainKind tells from the caller's stack, innermost first, what the chain is built for.
func (n *node) chainKind() chainKind {
	if by := n.borrower.Load(); by != 0 && by == goroutines.ID() {
		return chainOwn
	}
	var pcs [24]uintptr
	for _, pc := range pcs[:runtime.Callers(2, pcs[:])] {
		if kind := kindAt(pc); kind != chainUnknown {
			return kind
		}
	}
	return chainRoot
}

// kinds remembers the answers of kindAt: there are as many as functions of go-redis, and of its
// users', on the way to a chain being built.
var kinds sync.Map //nolint:gochecknoglobals // a cache of constants

// kindAt says what one frame, and those inlined into it, tell. All names but initConn and
// withProcess are of go-redis' public methods; if a release renamed initConn,
// TestHandshakeIsNotASession would fail.
func kindAt(pc uintptr) chainKind {
	if known, ok := kinds.Load(pc); ok {
		return known.(chainKind) //nolint:errcheck,forcetypeassert // nothing else is stored
	}
	kind := chainUnknown
	// One pc stands for several frames where a compiler has inlined, as it does more by a profile. The
	// runtime does not look into the last of a list: here that is 0, which is in no function.
	frames := runtime.CallersFrames([]uintptr{pc, 0})
	for more := true; more && kind == chainUnknown; {
		var f runtime.Frame
		f, more = frames.Next()
		kind = kindOf(f.Function)
	}
	kinds.Store(pc, kind)
	return kind
}

// kindOf says what a function on the stack tells.
func kindOf(function string) chainKind {
	name, ok := strings.CutPrefix(function, goRedis)
	switch {
	case !ok:
	case strings.HasPrefix(name, "(*hooksMixin).withProcess"):
		return chainPerCommand
	case name == "(*baseClient).initConn" || name == "(*baseClient).reAuthConnection.func1":
		return chainHandshake
	case name == "(*hooksMixin).AddHook" || name == "(*Client).WithTimeout":
		return chainRoot
	case name == "(*Client).Watch":
		return chainWatch
	case name == "(*Client).Conn" || name == "(*Client).EphemeralConn":
		return chainConn
	}
	return chainUnknown
}

// dialPurpose finds the purpose of a dial from the stack.
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

// chain is one chain being built: what ProcessHook has found out, for the two calls of
// ProcessPipelineHook that follow in the same goroutine. Nothing else ties these calls together.
type chain struct {
	kind    chainKind
	session *session // of chainConn and chainWatch
	calls   int      // of ProcessPipelineHook still to come
}

// beginChain is called by ProcessHook.
func (n *node) beginChain(next redis.ProcessHook) chain {
	c := chain{kind: n.chainKind(), calls: 2}
	switch c.kind {
	case chainConn, chainWatch:
		c.session = newSession(n, c.kind)
	case chainOwn:
		n.borrowed = next
	case chainRoot:
		n.root.Store(&next)
	case chainPerCommand:
		return c
	case chainHandshake, chainUnknown:
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.chains[goroutines.ID()] = c
	return c
}

// pipelineChain is called by ProcessPipelineHook. Without a ProcessHook before it the chain counts
// as the client's own, the harmless mistake: its commands are counted one by one.
func (n *node) pipelineChain() (c chain, last bool) {
	id := goroutines.ID()
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
