package redispool

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper/internal/acquire"
)

// link is one of the chains that go-redis builds for a session, or one that it builds for something
// else which the stack does not tell: a handshake, or a single command (of an AutoPipeliner, of a
// Cluster's pipeline).
//
// A link acquires its connection by a command with a token before the first command of its caller,
// and so knows which one it has got.
type link struct {
	node    *node
	kind    chainKind
	refused bool // it was built after the pool had begun to drain

	nextCommand  redis.ProcessHook         // what follows in the chain: this
	nextPipeline redis.ProcessPipelineHook // or this

	used      atomic.Bool // of chainUnknown: it has had a command
	handshake atomic.Bool // of chainUnknown: it is a handshake's

	mu        sync.Mutex    // guards the following
	acquiring bool          // a command acquires the connection
	acquired  chan struct{} // closed when it has; nil: no other command waits for it
	session   *session      // nil: none yet
	failed    error         // why there is none, if an acquisition has failed
}

func (n *node) newLink(kind chainKind) *link {
	if kind == chainWatch && !n.watched.Load() {
		n.watched.Store(true)
	}
	return &link{node: n, kind: kind, refused: n.pool.gate.Closed()}
}

// kindOfChain is what the chain being built is for, as far as this go-redis lets it be told.
func (n *node) kindOfChain(skip int) chainKind {
	if n.pool.reduced != nil {
		return chainUnknown
	}
	return kindOfChain(skip + 1)
}

// ask acquires the link's connection by a token, and returns the answer.
func (l *link) ask(ctx context.Context) (answer string, err error) {
	if l.nextCommand != nil {
		return askByCommand(ctx, l.nextCommand)
	}
	return askByPipeline(ctx, l.nextPipeline)
}

// otherCommand sends the first commands of a chain that the stack does not tell: at once if they are
// a handshake's, and else by themselves. If there is a second one the chain may be a session of a
// kind that is not known here, and is one if it has a connection: then otherCommand does nothing,
// and reports false.
func (l *link) otherCommand(ctx context.Context, cmd redis.Cmder) (done bool, err error) {
	n := l.node
	first := !l.used.Swap(true)
	if first && cmd.Name() == "hello" && (n.pool.reduced == nil || n.greeting.Load() > 0) {
		l.handshake.Store(true) // of a connection that was just dialled: a caller with a permit waits for it
	}
	switch {
	case l.handshake.Load(), first && cmd.Name() == "auth": // alone it renews a login
		return true, l.nextCommand(duringLogin(ctx), cmd)
	case first || n.pool.reduced != nil:
		return true, n.single(ctx, l.nextCommand, cmd)
	}
	l.mu.Lock()
	known := l.session
	l.mu.Unlock()
	if known != nil {
		return false, nil
	}
	u, ok := l.findSession(ctx)
	if !ok {
		return true, n.single(ctx, l.nextCommand, cmd)
	}
	n.others.Store(true)
	l.mu.Lock()
	l.session = u.session
	l.mu.Unlock()
	n.leave(u, end{})
	return false, nil
}

// otherPipeline does the same for a pipeline. It remembers nothing, for most of them are built for
// one pipeline of a Cluster.
func (n *node) otherPipeline(ctx context.Context, next redis.ProcessPipelineHook, cmds []redis.Cmder) error {
	if n.isHandshake(ctx, next, cmds) {
		return next(duringLogin(ctx), cmds)
	}
	if n.others.Load() {
		l := n.newLink(chainUnknown)
		l.nextPipeline = next
		if u, ok := l.findSession(ctx); ok {
			defer n.leave(u, end{})
			return n.pipelineOutcome(cmds, next(ctx, cmds), nil)
		}
	}
	return n.singlePipeline(ctx, next, cmds)
}

// isHandshake reports whether a pipeline is a handshake's: by its commands, or by its connection
// where OnConnect may send others.
func (n *node) isHandshake(ctx context.Context, next redis.ProcessPipelineHook, cmds []redis.Cmder) bool {
	if n.greeting.Load() == 0 {
		return false
	}
	if !slices.ContainsFunc(cmds, func(cmd redis.Cmder) bool { return !isHandshake(cmd.Name()) }) {
		return true
	}
	if n.pool.reduced != nil || n.client.Options().OnConnect == nil {
		return false
	}
	answer, err := askByPipeline(withEnd(ctx), next)
	c := n.connOf(answer)
	return err == nil && c != nil && c.start.greeting.Load()
}

// enter begins a command of a session.
func (l *link) enter(ctx context.Context) (use, error) {
	if l.refused {
		return use{}, l.node.pool.refusal()
	}
	var waited time.Duration
	for {
		s, other := l.claim()
		switch {
		case s != nil:
			l.node.evictor.Wake()
			if u, ok := s.begin(); ok {
				return u, nil
			}
			l.node.gate.Join() // the session is over: go-redis will say so, and there is nothing to wait for
			l.node.permits.acquireAnyway()
			return use{}, nil
		case other == nil:
			return l.acquire(ctx, waited)
		}
		begun := time.Now()
		select {
		case <-other:
			waited += time.Since(begun)
		case <-ctx.Done():
			return use{}, l.node.notAdmitted(acquire.GaveUp(ctx), waited+time.Since(begun))
		}
	}
}

// claim returns the session, or what to wait for while another command acquires its connection. If
// it returns neither the caller is to acquire it. So of several commands that come at once, which
// share a connection, only one waits for it.
func (l *link) claim() (*session, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.session != nil:
		return l.session, nil
	case l.acquiring:
		if l.acquired == nil {
			l.acquired = make(chan struct{})
		}
		return nil, l.acquired
	}
	l.acquiring = true
	return nil, nil
}

// settle ends what claim began.
func (l *link) settle(s *session, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.session, l.failed, l.acquiring = s, err, false
	if l.acquired != nil {
		close(l.acquired)
		l.acquired = nil
	}
}

// acquire acquires a connection for the session.
func (l *link) acquire(ctx context.Context, waited time.Duration) (u use, err error) {
	n := l.node
	defer func() { l.settle(u.session, err) }()
	u, waited, err = l.admit(ctx, waited)
	if err != nil || u.session != nil {
		return u, err
	}
	n.evictor.Wake()
	kept := false
	defer func() { // also when a hook of the service panics
		if !kept {
			n.dismiss()
		}
	}()
	c, err := l.take(ctx, waited)
	if err != nil {
		return use{}, err
	}
	kept = true
	if c == nil { // a connection that is not the pool's
		return use{}, nil
	}
	return n.bind(c, l.kind), nil
}

// admit waits for a permit, unless another link of the session turns out to have its connection:
// then it begins the command.
func (l *link) admit(ctx context.Context, waited time.Duration) (u use, total time.Duration, err error) {
	n, found := l.node, false
	if l.nextPipeline != nil && n.held.Load() > 0 { // most likely a command came before the pipeline
		if u, found = l.findSession(ctx); found {
			return u, waited, nil
		}
	}
	n.gate.Join() // before the permit: Pause stops permits first and then counts the callers in the gate
	if n.freePermit() {
		return use{}, waited, nil
	}
	n.gate.Leave()
	if u, found = l.findSession(ctx); found {
		return u, waited, nil
	}
	return l.queue(ctx, waited)
}

// freePermit takes a permit if that needs no wait.
func (n *node) freePermit() bool {
	return n.breaker.Down() == nil && (n.ownsGate || !n.pool.permits.active.Load()) && n.permits.tryAcquire()
}

// findSession begins a command of the session if another link has acquired its connection: go-redis
// then gives it out at once, and gives out no other when the context has ended.
func (l *link) findSession(ctx context.Context) (use, bool) {
	n := l.node
	answer, err := l.ask(withEnd(ctx))
	if err != nil {
		return use{}, false
	}
	c := n.connOf(answer)
	if c == nil {
		return use{}, false
	}
	n.gate.Join()
	n.permits.acquireAnyway()
	kind := l.kind
	if kind == chainUnknown {
		kind = chainConn
	}
	return n.bind(c, kind), true
}

// recheckInterval is how often a command in the queue looks whether another link of its session has
// acquired the connection: it must not wait for what the session itself has.
const recheckInterval = 10 * time.Millisecond

// errSessionFound ends the wait of such a command. No caller sees it.
var errSessionFound = errors.New("redispool: the session has a connection")

// queue waits for a permit, or for another link of the session to have a connection.
func (l *link) queue(ctx context.Context, waited time.Duration) (u use, total time.Duration, err error) {
	n := l.node
	if err = n.refused(); err != nil {
		n.met.count(refusals)
		return use{}, waited, err
	}
	if waited, err = n.waitOutPause(ctx, waited); err != nil {
		return use{}, waited, err
	}
	waited, err = n.queue(ctx, waited, func() (found bool) {
		u, found = l.findSession(ctx)
		return found
	})
	if u.session != nil {
		return u, waited, nil
	}
	return use{}, waited, err
}

// take makes go-redis acquire the session's connection, and returns it.
func (l *link) take(ctx context.Context, waited time.Duration) (*conn, error) {
	n := l.node
	n.acquiringSession.Add(1)
	defer n.acquiringSession.Add(-1)
	for n.acquiringIdle.Load() { // for microseconds
		runtime.Gosched()
	}
	var answer string
	var err error
	if n.mustBound() {
		a := n.acquisition(ctx, waited)
		defer a.release()
		if answer, err = l.ask(a); err != nil { //nolint:contextcheck // a derives from ctx
			return nil, a.outcome(err)
		}
	} else if answer, err = l.ask(ctx); err != nil {
		return nil, n.outcome(err)
	}
	c := n.connOf(answer)
	if c != nil {
		c.settle()
	}
	return c, nil
}

// vain returns why UNWATCH need not be sent: the Watch has got no connection, and would ask for one
// again.
func (l *link) vain() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.session != nil {
		return nil
	}
	return l.failed
}

// command sends a command of a session.
func (l *link) command(ctx context.Context, cmd redis.Cmder) error {
	if l.kind == chainUnknown {
		if done, err := l.otherCommand(ctx, cmd); done {
			return err
		}
	}
	unwatch := l.kind == chainWatch && cmd.Name() == "unwatch"
	if unwatch {
		if err := l.vain(); err != nil {
			return err
		}
	}
	u, err := l.enter(ctx)
	if err != nil {
		return err
	}
	var e end
	defer func() { l.node.leave(u, e) }()
	err = l.nextCommand(ctx, cmd)
	e.armed, e.disarmed = err == nil && cmd.Name() == "watch", unwatch
	return l.node.outcome(err)
}

// pipeline does the same for a pipeline.
func (l *link) pipeline(ctx context.Context, cmds []redis.Cmder) error {
	u, err := l.enter(ctx)
	if err != nil {
		return failAll(cmds, err)
	}
	var e end
	defer func() { l.node.leave(u, e) }()
	err = l.nextPipeline(ctx, cmds)
	// The server forgets what was watched at EXEC, whether it commits or aborts. After any other
	// error go-redis sends UNWATCH.
	e.disarmed = cmds[len(cmds)-1].Name() == "exec" &&
		(err == nil || errors.Is(err, redis.TxFailedErr) || redis.IsExecAbortError(err))
	return l.node.pipelineOutcome(cmds, err, nil)
}

// onceOnly is a command that is not tried again.
type onceOnly struct{ *redis.StatusCmd }

// NoRetry implements redis.Cmder.
func (onceOnly) NoRetry() bool { return true }

// ended is a context that has ended, with the values of another.
type ended struct{ context.Context } //nolint:containedctx // a context is what it makes

var endedDone = func() <-chan struct{} { //nolint:gochecknoglobals // a constant
	c := make(chan struct{})
	close(c)
	return c
}()

func withEnd(ctx context.Context) context.Context { return ended{ctx} }

func (ended) Deadline() (time.Time, bool) { return time.Time{}, false }
func (ended) Done() <-chan struct{}       { return endedDone }
func (ended) Err() error                  { return context.Canceled }
