package redispool

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/acquire"
	"github.com/poolkeeper/poolkeeper/internal/monotime"
)

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
	return n.valve.busy.Load() > n.open.Load() && (n.lent.Load() == 0 || n.idle() == 0)
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

// loginTime is the context for the login of a new connection, for which the caller of an acquisition
// waits.
type loginTime struct {
	context.Context //nolint:containedctx // a context is what it makes

	by time.Time
}

// Deadline is the earlier one of the caller's and of what AcquireTimeout leaves.
func (l loginTime) Deadline() (time.Time, bool) { return l.by, true }

// duringLogin returns the context for a command of a login.
func duringLogin(ctx context.Context) context.Context {
	a, ok := ctx.Value(acquisitionKey{}).(*acquisition)
	if !ok {
		return ctx
	}
	by, bounded := a.caller.Deadline()
	if a.limit > 0 {
		waited, _ := a.soFar()
		if over := time.Now().Add(a.limit - waited); !bounded || over.Before(by) {
			by, bounded = over, true
		}
	}
	if !bounded {
		return withoutDeadline{ctx}
	}
	return loginTime{ctx, by}
}

// withoutDeadline keeps a question for the deadline from its context.
type withoutDeadline struct{ context.Context } //nolint:containedctx // a context is what it makes

func (withoutDeadline) Deadline() (time.Time, bool) { return time.Time{}, false }

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

// veiled is an error that go-redis does not take for one of the network, and so does not try again,
// with a pause, what cannot succeed. Callers of a Cluster's node see the poolkeeper error in it;
// others get what is in it.
type veiled struct {
	err       error
	elsewhere bool // go-redis is to try another node
}

// veil returns err as go-redis shall see it.
func veil(err error) error { return &veiled{err: err} }

// Error is that of the error itself.
func (v *veiled) Error() string { return v.err.Error() }

// Is shows what is poolkeeper's. An EOF is what go-redis tries again, on another node of a Cluster.
func (v *veiled) Is(target error) bool {
	switch target {
	case poolkeeper.ErrDown, poolkeeper.ErrAcquireTimeout, poolkeeper.ErrClosed, poolkeeper.ErrDraining:
		return errors.Is(v.err, target)
	case io.EOF:
		return v.elsewhere
	}
	return false
}

// As shows what is poolkeeper's.
func (v *veiled) As(target any) bool {
	switch target.(type) {
	case **poolkeeper.DownError, **poolkeeper.AcquireError:
		return errors.As(v.err, target)
	}
	return false
}

// unveiled returns err as a caller shall see it.
func unveiled(err error) error {
	if v, ok := errors.AsType[*veiled](err); ok {
		return v.err
	}
	return err
}

// unveilAll does the same for the commands of a pipeline.
func unveilAll(cmds []redis.Cmder, err error) error {
	if err == nil {
		return nil
	}
	for _, cmd := range cmds {
		if cmd.Err() != nil {
			cmd.SetErr(unveiled(cmd.Err()))
		}
	}
	return unveiled(err)
}
