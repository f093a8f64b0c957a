package redispool

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/acquire"
	"github.com/poolkeeper/poolkeeper/internal/monotime"
)

// Here are the errors of a wait; the wait itself is permits.acquire in queue.go.

// timeIsOver ends a wait after AcquireTimeout, as go-redis' own error does.
func timeIsOver(limit time.Duration) error { return acquire.TimedOut(limit, redis.ErrPoolTimeout) }

// explain turns the bare error of a caller without a connection into one with the reason. It leaves
// other errors alone. Comparing context errors by identity tells the wait for a connection, which
// returns them bare, from a deadline on the wire, which does not.
func (n *node) explain(err error) error {
	inVain := errors.Is(err, redis.ErrPoolTimeout)
	if err == context.DeadlineExceeded || err == context.Canceled { //nolint:errorlint // see above
		s := n.client.PoolStats()
		inVain = s.IdleConns == 0 && (int(s.TotalConns) >= n.pool.cfg.MaxOpenCeiling || s.PendingRequests > 0 || n.lastDial.Load() != nil)
	}
	if !inVain {
		return err
	}
	return n.acquireError(err, 0)
}

// gaveUpAfter counts and describes a caller that has waited in vain.
func (n *node) gaveUpAfter(err error, waited time.Duration) *poolkeeper.AcquireError {
	switch {
	case errors.Is(err, poolkeeper.ErrTooManyWaiting):
		n.met.count(refusals)
	case !errors.Is(err, context.Canceled):
		n.met.count(acquireTimeouts)
	}
	return n.acquireError(err, waited)
}

// acquireError describes the pool as it is now.
func (n *node) acquireError(err error, waited time.Duration) *poolkeeper.AcquireError {
	open, idle := openAndIdle(n.client.PoolStats())
	out := &poolkeeper.AcquireError{
		Pool: n.pool.poolName(), Max: n.pool.config().MaxOpen, InUse: open - idle,
		Waiting: n.permits.waiting(), Waited: waited, Time: time.Now(), Err: err,
	}
	if !n.ownsGate {
		out.Pool += "/" + n.addr()
	}
	out.Oldest = n.pool.held.Oldest()
	if last := n.lastDial.Load(); last != nil {
		out.DialErr = cannotDial(*last)
	}
	return out
}

// cannotDial says that no new connection could be opened, and why.
func cannotDial(err error) error {
	return asFault(fmt.Errorf("no connection could be opened lately: %w", err))
}

// acquisition is the context of a command that may have to wait for a connection: it ends with the
// caller's, when AcquireTimeout is over, when the server is known to be down, and with the pool.
// go-redis asks a context for Done while it waits (for a dial, or between attempts), and for its
// Deadline when it has a connection and is about to use it. So AcquireTimeout runs from the first
// to the second, and the time that the server takes to answer is not counted.
type acquisition struct {
	context.Context //nolint:containedctx // a context is what it makes

	caller context.Context //nolint:containedctx // whose values it has
	node   *node
	end    context.CancelCauseFunc
	free   func()
	limit  time.Duration // AcquireTimeout; 0: none

	mu     sync.Mutex // guards the following
	waited time.Duration
	since  monotime.Time // when the wait under way began; 0: there is a connection
	timer  *time.Timer   // nil: no limit
}

type acquisitionKey struct{}

// mustBound reports whether a command that has a permit may have to wait all the same: no
// connection seems to be idle, something has failed lately, or an idle connection is condemned and
// refuses its checkout. Conns that were closed may have permits yet, so where there are any it asks
// go-redis.
func (n *node) mustBound() bool {
	if n.lastDial.Load() != nil || n.troubled.Load() || n.purges.pending.Load() || n.pool.cfg.AcquireTimeout == 0 && n.watched.Load() {
		return true
	}
	return n.permits.busy.Load() > n.open.Load() && (n.lent.Load() == 0 || n.idle() == 0)
}

// acquisition returns the context for a command of a caller that has queued for so long. The caller
// owes a release.
func (n *node) acquisition(ctx context.Context, waited time.Duration) *acquisition {
	a := &acquisition{caller: ctx, node: n, limit: n.pool.cfg.AcquireTimeout, waited: waited, since: monotime.Now()}
	up, cancel := n.breaker.Bound(ctx)
	a.Context, a.end = context.WithCancelCause(up)
	stop := context.AfterFunc(n.pool.life, func() { a.end(errLifeEnded) }) //nolint:contextcheck // up derives from ctx
	a.free = func() {
		stop()
		a.end(nil)
		cancel()
	}
	if a.limit > 0 {
		a.timer = time.AfterFunc(a.limit-waited, func() { a.end(timeIsOver(a.limit)) })
	}
	return a
}

func (a *acquisition) release() {
	if a.timer != nil {
		a.timer.Stop()
	}
	a.free()
}

// Done is asked for by go-redis when it begins to wait.
func (a *acquisition) Done() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.since == 0 {
		a.since = monotime.Now()
		if a.timer != nil {
			a.timer.Reset(a.limit - a.waited)
		}
	}
	return a.Context.Done()
}

// Deadline is asked for by go-redis when it has a connection.
func (a *acquisition) Deadline() (time.Time, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.since != 0 {
		a.waited += monotime.Since(a.since)
		a.since = 0
		if a.timer != nil {
			a.timer.Stop()
		}
	}
	return a.Context.Deadline()
}

// Value gives the acquisition itself to the login of a new connection.
func (a *acquisition) Value(key any) any {
	if key == (acquisitionKey{}) {
		return a
	}
	return a.Context.Value(key)
}

// soFar is how long the caller has waited, and whether it still does.
func (a *acquisition) soFar() (waited time.Duration, waits bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.since == 0 {
		return a.waited, false
	}
	return a.waited + monotime.Since(a.since), true
}

// outcome is node.outcome for a command under an acquisition.
func (a *acquisition) outcome(err error) error {
	if err == nil || isAnswer(err) {
		return a.node.outcome(err)
	}
	if _, ok := errors.AsType[*veiled](err); ok {
		return a.node.outcome(err)
	}
	waited, waits := a.soFar()
	cause := a.cause(waited)
	if !waits || cause == nil {
		return a.node.outcome(err)
	}
	if down, ok := errors.AsType[*poolkeeper.DownError](cause); ok {
		a.node.met.count(refusals)
		return a.node.delivered(down)
	}
	if errors.Is(cause, errLifeEnded) {
		return a.node.pool.refusal()
	}
	out := a.node.gaveUpAfter(cause, waited)
	if out.DialErr == nil {
		out.DialErr = cannotDial(noAnswerError{}) // a caller with a permit waits for a new connection
	}
	return out
}

// cause is why the wait has ended, if it has. A deadline on the wire may be a moment earlier than
// the timer for it.
func (a *acquisition) cause(waited time.Duration) error {
	switch by, ok := a.caller.Deadline(); {
	case a.node.pool.life.Err() != nil:
		return errLifeEnded
	case a.caller.Err() != nil:
		return acquire.GaveUp(a.caller)
	case ok && !time.Now().Before(by):
		return &acquire.TimeoutError{Text: context.DeadlineExceeded.Error()}
	case a.Err() != nil:
		return context.Cause(a.Context)
	case a.limit > 0 && waited >= a.limit:
		return timeIsOver(a.limit)
	}
	return nil
}

// forgetAfter is longer than go-redis pauses between two attempts.
const forgetAfter = 10 * time.Second

// attempts knows how long a Cluster's commands have waited, between one attempt and the next.
// go-redis sends a command that is redirected or tried again through the hooks of another node. The
// command is the same object there, so its attempts share one AcquireTimeout. An attempt takes the
// entry of its commands, and notes a new one when it has failed. The ClusterClient's hook takes what
// is left when the command ends. Commands on a node's own client (ForEachMaster) do not pass that
// hook. Their entries are dropped after forgetAfter.
type attempts struct {
	known atomic.Int64 // len(byCmd): while it is 0, a command does not lock

	mu    sync.Mutex // guards the following
	byCmd map[redis.Cmder]attempt
	swept monotime.Time // when old entries were dropped last
}

// attempt is an entry of attempts.
type attempt struct {
	waited time.Duration // on all attempts until then
	ended  monotime.Time
}

// take removes the entries of cmds. It returns the longest wait among them, pauses since then
// included.
func (a *attempts) take(cmds ...redis.Cmder) time.Duration {
	if a.known.Load() == 0 {
		return 0
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	var longest time.Duration
	now := monotime.Now()
	for _, cmd := range cmds {
		if !isKey(cmd) {
			continue
		}
		if t, ok := a.byCmd[cmd]; ok {
			longest = max(longest, t.waited+now.Sub(t.ended))
			delete(a.byCmd, cmd)
		}
	}
	a.tidyLocked(now)
	return longest
}

// note says that an attempt at cmds has ended, and how long they have waited so far.
func (a *attempts) note(waited time.Duration, cmds ...redis.Cmder) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := monotime.Now()
	for _, cmd := range cmds {
		if !isKey(cmd) {
			continue
		}
		if a.byCmd == nil {
			a.byCmd = map[redis.Cmder]attempt{}
		}
		a.byCmd[cmd] = attempt{waited: waited, ended: now}
	}
	a.tidyLocked(now)
}

// tidyLocked drops old entries from time to time, and the map with the last one.
func (a *attempts) tidyLocked(now monotime.Time) {
	if now.Sub(a.swept) >= forgetAfter {
		a.swept = now
		for cmd, t := range a.byCmd {
			if now.Sub(t.ended) >= forgetAfter {
				delete(a.byCmd, cmd)
			}
		}
	}
	if len(a.byCmd) == 0 {
		a.byCmd = nil
	}
	a.known.Store(int64(len(a.byCmd)))
}

// isKey reports whether cmd can be the key of a map: a user's own type need not be a pointer.
func isKey(cmd redis.Cmder) bool { return reflect.ValueOf(cmd).Comparable() }

// tried notes how long a command has waited whose attempt ended with err: go-redis may try another
// node.
func (n *node) tried(cmd redis.Cmder, waited time.Duration, err error) {
	if err == nil || err == redis.Nil || !n.sharesTimeout() { //nolint:errorlint // see isAnswer
		return
	}
	if waited > 0 || isConnFailure(err) {
		n.pool.attempts.note(waited, cmd)
	}
}

// triedAll does the same for the commands of a pipeline, some of which may have succeeded.
func (n *node) triedAll(cmds []redis.Cmder, waited time.Duration, err error) {
	if !n.sharesTimeout() || waited == 0 && (err == nil || !isConnFailure(err)) {
		return
	}
	failed := make([]redis.Cmder, 0, len(cmds))
	for _, cmd := range cmds {
		if err := cmd.Err(); err != nil && err != redis.Nil { //nolint:errorlint // see isAnswer
			failed = append(failed, cmd)
		}
	}
	if len(failed) > 0 {
		n.pool.attempts.note(waited, failed...)
	}
}

// gaveUpBefore returns the error of a pipeline whose last attempt has waited for all of
// AcquireTimeout, or nil. go-redis tries a pipeline again whatever the reason why it got no
// connection.
func gaveUpBefore(cmds []redis.Cmder, before time.Duration) error {
	if before == 0 {
		return nil
	}
	for _, cmd := range cmds {
		if e, ok := errors.AsType[*poolkeeper.AcquireError](cmd.Err()); ok && errors.Is(e, poolkeeper.ErrAcquireTimeout) {
			return e
		}
	}
	return nil
}

// sharesTimeout reports whether the attempts of a command may go to several nodes, within one
// AcquireTimeout.
func (n *node) sharesTimeout() bool { return !n.ownsGate && n.pool.cfg.AcquireTimeout > 0 }
