package redispool

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/acquire"
	"github.com/poolkeeper/poolkeeper/internal/holders"
	"github.com/poolkeeper/poolkeeper/internal/turn"
)

// session is a connection lent to one caller: a Conn, or the Tx of a Watch. It holds a connection
// from its first command on. go-redis says nothing when a session ends, so:
//
//   - a Watch holds from WATCH until EXEC or UNWATCH, one of which go-redis always sends; commands outside of that
//     count one by one, as the client's own do, but do not wait for a permit once it has a connection;
//   - a Conn holds from its first command until its connection is closed, or is handed out to
//     another caller. Under traffic that happens soon, and node.rotate makes it happen at once.
type session struct {
	node    *node
	kind    chainKind
	refused bool // it was begun after the pool had begun to drain

	mu        sync.Mutex // guards the following
	admitting turn.Turn  // see admission
	busy      int        // commands under way
	permits   int        // that the session has from the valve, at the end of the hold or of the commands outside of one
	linked    bool       // the server has answered on its connection
	failed    error      // why the last command of a session that is not linked failed
	holds     bool       // counted by node.gate, listed in entry
	conn      *conn      // of a Conn that holds; nil until it is known which
	entry     holders.Entry
}

func newSession(n *node, kind chainKind) *session {
	if kind == chainWatch && !n.watched.Load() {
		n.watched.Store(true)
	}
	return &session{node: n, kind: kind, refused: n.pool.gate.Closed()}
}

// enter begins a command. Work that is part of a session is never refused or held up, unless the
// whole session is. waited is how long it was held up.
func (s *session) enter(ctx context.Context) (joined bool, waited time.Duration, err error) {
	if s.refused {
		return false, 0, s.node.pool.refusal()
	}
	n := s.node
	joined, seeks := s.begin()
	if joined && !s.permitted() {
		s.leave(end{})
		if seeks, waited, err = s.enterInTurn(ctx); err != nil {
			return false, waited, err
		}
	}
	if seeks {
		n.seek(s)
	}
	n.evictor.Wake()
	return joined, waited, nil
}

// permitted reports whether the session has a permit, or gets one without waiting. A session that
// may have a connection does not wait for another's to be returned: its owner may be waiting for
// this one.
func (s *session) permitted() bool {
	n := s.node
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.permits > 0:
		return true
	case s.linked && s.kind == chainWatch:
		n.valve.overdraw()
	case n.breaker.Down() != nil, !n.isDoor && n.pool.valve.active.Load(), !n.valve.tryPass():
		return false
	}
	s.permits++
	return true
}

// enterInTurn begins a command when no pause and no limit holds it up. Of several commands of a
// session that come at once only one queues: they share its connection, and none may wait for what
// the session itself has.
func (s *session) enterInTurn(ctx context.Context) (seeks bool, waited time.Duration, err error) {
	if err = s.node.refused(); err != nil {
		return false, 0, err
	}
	one := s.admission()
	begun := time.Now()
	err = one.Take(ctx)
	waited = time.Since(begun)
	if err != nil {
		return false, waited, s.node.notAdmitted(acquire.GaveUp(ctx), waited)
	}
	defer one.End()
	joined, seeks := s.begin()
	if !joined || s.permitted() {
		return seeks, waited, nil
	}
	s.leave(end{})
	if waited, err = s.node.waitOutPause(ctx, waited); err != nil {
		return false, waited, err
	}
	if waited, err = s.node.queue(ctx, waited); err != nil {
		return false, waited, err
	}
	_, seeks = s.begin()
	s.mu.Lock()
	s.permits++
	s.mu.Unlock()
	s.node.gate.Leave() // begin has joined for the session
	return seeks, waited, nil
}

// admission is the mutex that serialises the session's wait for a pause or a permit. It is made at
// the first such wait: most sessions never wait.
func (s *session) admission() turn.Turn {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.admitting == nil {
		s.admitting = turn.New()
	}
	return s.admitting
}

// begin counts a command. joined says that the session did not hold a connection before, seeks that
// it is not known which one it has.
func (s *session) begin() (joined, seeks bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy++
	joined = !s.holds
	switch {
	case s.holds:
	case s.kind == chainConn:
		s.holdLocked(poolkeeper.KindConn)
		s.node.lent.Add(1)
	default:
		s.node.gate.Join()
	}
	return joined, s.kind == chainConn && s.conn == nil
}

// end says how a command of a session has ended.
type end struct {
	armed    bool // a watch is in force now
	disarmed bool // none is any more
}

// leave ends a command that enter began.
func (s *session) leave(e end) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy--
	switch {
	case s.kind == chainConn:
		s.node.endSeek(s)
		if s.conn == nil && s.busy == 0 && s.holds { // it has got none
			s.releaseLocked()
		}
		return
	case s.holds && e.disarmed:
		s.releaseLocked()
	case s.holds:
	case e.armed:
		s.holdLocked(poolkeeper.KindWatch)
		s.node.gate.Leave() // what begin has joined; holdLocked has joined for the whole watch
	default:
		s.node.gate.Leave()
	}
	if s.busy == 0 && !s.holds {
		s.returnLocked()
	}
}

// returnLocked returns the session's permits.
func (s *session) returnLocked() {
	for ; s.permits > 0; s.permits-- {
		s.node.valve.done()
	}
}

// heard notes how a command of a Watch has ended: whether there is a connection, and if not, why.
func (s *session) heard(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil || isAnswer(err) {
		s.linked, s.failed = true, nil
	} else if !s.linked {
		s.failed = err
	}
}

// vain returns why UNWATCH need not be sent: the Watch has got no connection, and would ask for one
// again.
func (s *session) vain() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

// takes notes which connection a Conn has got.
func (s *session) takes(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.holds {
		s.conn = c
		c.lentTo.Store(s)
	}
}

// lost notes that c is no longer a Conn's: the Conn was closed.
func (s *session) lost(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.holds && s.conn == c {
		s.releaseLocked()
	}
}

func (s *session) holdLocked(kind string) {
	s.holds = true
	s.node.gate.Join()
	s.node.pool.held.Hold(&s.entry, kind)
}

func (s *session) releaseLocked() {
	s.holds, s.conn = false, nil
	s.node.pool.held.Release(&s.entry)
	s.node.gate.Leave()
	if s.kind == chainConn {
		s.returnLocked()
		s.node.lent.Add(-1)
	}
}

// process is the session's part in a command.
func (s *session) process(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error { //nolint:contextcheck // an acquisition derives from ctx
	unwatch := s.kind == chainWatch && cmd.Name() == "unwatch"
	if unwatch {
		if err := s.vain(); err != nil {
			return err
		}
	}
	joined, waited, err := s.enter(ctx)
	if err != nil {
		if s.kind == chainWatch {
			s.heard(err)
		}
		return err
	}
	var e end
	defer func() { s.leave(e) }()
	var a *acquisition
	if joined && s.node.mustBound() {
		a = s.node.acquisition(ctx, waited)
		defer a.release()
		ctx = a
	}
	err = next(ctx, cmd)
	if s.kind == chainWatch {
		s.heard(err)
		e.armed, e.disarmed = err == nil && cmd.Name() == "watch", unwatch
	}
	if a != nil {
		return a.outcome(err)
	}
	return s.node.outcome(err)
}

// pipeline is the session's part in a pipeline; tx says that it is a MULTI … EXEC.
func (s *session) pipeline(ctx context.Context, cmds []redis.Cmder, tx bool, next redis.ProcessPipelineHook) error { //nolint:contextcheck // an acquisition derives from ctx
	joined, waited, err := s.enter(ctx)
	if err != nil {
		return failAll(cmds, err)
	}
	var e end
	defer func() { s.leave(e) }()
	var a *acquisition
	if joined && s.node.mustBound() {
		a = s.node.acquisition(ctx, waited)
		defer a.release()
		ctx = a
	}
	err = next(ctx, cmds)
	if s.kind == chainWatch {
		s.heard(err)
	}
	// The server forgets what was watched at EXEC, whether it commits or aborts. After any other
	// error go-redis sends UNWATCH.
	e.disarmed = tx && (err == nil || errors.Is(err, redis.TxFailedErr) || redis.IsExecAbortError(err))
	return s.node.pipelineOutcome(cmds, err, a)
}

// probe is an argument that cannot be sent. go-redis takes a connection for the command, fails to
// write it, and puts the connection back untouched: an answer of the server to a command is no
// reason to drop a connection, and probe's error looks like one. So a command with probe in it
// takes a connection out of the pool without a byte on the wire.
type probe struct{}

// errProbe is the error of a probe that has got a connection.
type errProbe struct{} //nolint:errname // it never reaches a caller

func (errProbe) Error() string { return "redispool: probe" }

// RedisError makes go-redis take it for an answer of the server.
func (errProbe) RedisError() {}

// MarshalBinary implements encoding.BinaryMarshaler.
func (probe) MarshalBinary() ([]byte, error) { return nil, errProbe{} }

// seize takes a connection for the chain that ends in base, or makes sure that it has one, without
// sending anything.
func seize(ctx context.Context, base redis.ProcessHook) error {
	err := base(ctx, onceOnly{redis.NewStatusCmd(ctx, "ping", probe{})})
	if _, ok := errors.AsType[errProbe](err); ok {
		return nil
	}
	if err == nil {
		return errors.New("redispool: a command that cannot be sent was answered")
	}
	return err
}

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
