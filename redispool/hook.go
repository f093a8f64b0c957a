package redispool

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
)

// hook is the pool's place in the chain of one native client. It stays the innermost one, so that
// what the pool does for itself does not run through hooks of the user's, tracing for example:
// Start adds a second one after those that were added meanwhile, and the first then lets everything
// pass.
type hook struct {
	node *node
	errs dialErrors

	reopens  atomic.Bool                    // it adds an opener
	dialNext atomic.Pointer[redis.DialHook] // what follows it in the chain for dials since then; nil: as DialHook was told
}

// addHook makes a new hook the client's innermost one, but for the opener. Behind Sentinel there is
// no opener: the client's own dialer asks the sentinels for the address, and then calls Pool.open.
func (n *node) addHook() {
	h := &hook{node: n, errs: dialErrors{most: int64(n.client.Options().PoolSize), greeting: &n.greeting}}
	n.active.Store(h)
	n.client.AddHook(h)
	if n.pool.target.kind != kindSentinel {
		n.addOpener()
	}
}

func (h *hook) retired() bool { return h.node.active.Load() != h }

// DialHook keeps the books of connections.
func (h *hook) DialHook(next redis.DialHook) redis.DialHook {
	if h.retired() {
		return nil
	}
	n := h.node
	if h.reopens.Load() && kindOfChain(1) == chainRoot { // a Conn's chain may be built at the same time
		h.dialNext.Store(&next)
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		return h.errs.dial(ctx, n.pool.life, n.pool.cfg.DialTimeout, func(ctx context.Context) (net.Conn, error) {
			return n.dial(ctx, forPool, func(ctx context.Context) (net.Conn, error) { return h.dialChain(next)(ctx, network, addr) })
		})
	}
}

// ProcessHook counts single commands.
func (h *hook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	if h.retired() {
		return nil
	}
	n := h.node
	kind := n.kindOfChain(1)
	if kind == chainRoot {
		n.hooksAdded.Add(1)
	}
	if kind == chainRoot || kind == chainClone {
		next = n.slotsUnlessSilent(n.graded(next))
		return func(ctx context.Context, cmd redis.Cmder) error { return n.single(ctx, next, cmd) }
	}
	l := n.newLink(kind)
	l.nextCommand = next
	return l.command
}

// ProcessPipelineHook counts pipelines. go-redis calls it twice per chain: for pipelines, and for
// MULTI … EXEC.
func (h *hook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	if h.retired() {
		return nil
	}
	n := h.node
	kind := n.kindOfChain(1)
	switch kind {
	case chainRoot, chainClone:
		next = n.gradedPipeline(next)
		return func(ctx context.Context, cmds []redis.Cmder) error { return n.singlePipeline(ctx, next, cmds) }
	case chainUnknown:
		return func(ctx context.Context, cmds []redis.Cmder) error { return n.otherPipeline(ctx, next, cmds) }
	case chainConn, chainWatch:
	}
	l := n.newLink(kind)
	l.nextPipeline = next
	return l.pipeline
}

// single sends a command that counts by itself.
func (n *node) single(ctx context.Context, next redis.ProcessHook, cmd redis.Cmder) error {
	var before time.Duration
	if n.pool.attempts.known.Load() > 0 {
		before = n.pool.attempts.take(cmd)
	}
	waited, err := n.admit(ctx, before)
	if err != nil {
		n.tried(cmd, waited, err)
		return err
	}
	defer n.dismiss()
	n.evictor.Wake()
	if n.mustBound() {
		a := n.acquisition(ctx, waited)
		defer a.release()
		err = a.outcome(n.whileStale(func() error { return next(a, cmd) })) //nolint:contextcheck // a derives from ctx
		waited, _ = a.soFar()
		n.tried(cmd, waited, err)
		return err
	}
	err = next(ctx, cmd)
	if err == nil && !n.troubled.Load() {
		return nil
	}
	if isStale(err) {
		err = n.whileStale(func() error { return next(ctx, cmd) })
	}
	err = n.outcome(err)
	n.tried(cmd, waited, err)
	return err
}

// singlePipeline sends a pipeline that counts by itself.
func (n *node) singlePipeline(ctx context.Context, next redis.ProcessPipelineHook, cmds []redis.Cmder) error {
	before := n.pool.attempts.take(cmds...)
	if err := gaveUpBefore(cmds, before); err != nil {
		return failAll(cmds, err)
	}
	waited, err := n.admit(ctx, before)
	if err != nil {
		return failAll(cmds, err)
	}
	defer n.dismiss()
	n.evictor.Wake()
	if n.mustBound() {
		a := n.acquisition(ctx, waited)
		defer a.release()
		err = n.whileStale(func() error { return next(a, cmds) }) //nolint:contextcheck // a derives from ctx
		err = n.pipelineOutcome(cmds, err, a)
		waited, _ = a.soFar()
		n.triedAll(cmds, waited, err)
		return err
	}
	err = next(ctx, cmds)
	if isStale(err) {
		err = n.whileStale(func() error { return next(ctx, cmds) })
	}
	if err != nil || n.troubled.Load() {
		err = n.pipelineOutcome(cmds, err, nil)
	}
	n.triedAll(cmds, waited, err)
	return err
}

// isStale reports whether a command was not sent because its connection turned out to be closed.
func isStale(err error) bool {
	if err == nil || err == redis.Nil { //nolint:errorlint // see isAnswer
		return false
	}
	_, ok := errors.AsType[staleError](err)
	return ok
}

// whileStale runs a command again while its connection turns out to be closed before use: after a restart
// that may be so for each connection of the pool, and the next one is dialled.
func (n *node) whileStale(run func() error) (err error) {
	for range n.pool.config().MaxOpen + 1 {
		if err = run(); !isStale(err) {
			break
		}
	}
	return err
}

// failAll gives err to every command of a pipeline that was never sent, and returns it.
func failAll(cmds []redis.Cmder, err error) error {
	for _, cmd := range cmds {
		cmd.SetErr(err)
	}
	return err
}

// pipelineOutcome is outcome for a pipeline: commands that failed for the same reason get the same
// explanation. a is nil if the pipeline had no acquisition.
func (n *node) pipelineOutcome(cmds []redis.Cmder, err error, a *acquisition) error {
	n.heardErrors(cmds)
	var out error
	if a != nil {
		out = a.outcome(err)
	} else {
		out = n.outcome(err)
	}
	if out != nil && out != err { //nolint:errorlint // it was explained: no connection, none of them was sent
		return failAll(cmds, out)
	}
	return out
}

// clusterHook is the pool's place in the chain of a ClusterClient, whose commands each go through the
// chain of some node after it. It refuses what begins after the pool has begun to drain, and leaves
// the rest to the nodes' hooks.
type clusterHook struct{ pool *Pool }

// DialHook does nothing: a ClusterClient dials through its nodes.
func (clusterHook) DialHook(redis.DialHook) redis.DialHook { return nil }

// ProcessHook lets a command in.
func (d clusterHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if err := d.admit(ctx, cmd); err != nil {
			return err
		}
		defer d.dismiss(cmd)
		return unveiled(next(forCaller(ctx, cmd), cmd))
	}
}

// ProcessPipelineHook lets a pipeline in.
func (d clusterHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if err := d.admit(ctx, cmds...); err != nil {
			return failAll(cmds, err)
		}
		defer d.dismiss(cmds...)
		return unveilAll(cmds, next(ctx, cmds))
	}
}

// dismiss ends what admit let in.
func (d clusterHook) dismiss(cmds ...redis.Cmder) {
	d.pool.attempts.take(cmds...)
	d.pool.gate.Leave()
}

// admit lets a command or a pipeline in. After nil the caller owes a dismiss.
func (d clusterHook) admit(ctx context.Context, cmds ...redis.Cmder) error {
	p := d.pool
	var waited time.Duration
	for p.gate.Enter() {
		if !p.permits.active.Load() {
			if waited > 0 && p.cfg.AcquireTimeout > 0 {
				p.attempts.note(waited, cmds...)
			}
			return nil
		}
		p.gate.Leave()
		begun := time.Now()
		err := p.permits.acquire(ctx, queueing{limit: p.cfg.AcquireTimeout, waited: waited})
		waited += time.Since(begun)
		switch {
		case errors.Is(err, errLifeEnded):
			return p.refusal()
		case err != nil:
			if !errors.Is(err, context.Canceled) {
				p.met.count(acquireTimeouts)
			}
			return &poolkeeper.AcquireError{
				Pool: p.poolName(), Max: p.config().MaxOpen, Waiting: p.permits.waiting(), Waited: waited,
				Time: time.Now(), Err: fmt.Errorf("%w: %w", poolkeeper.ErrPaused, err),
			}
		}
		p.permits.release()
	}
	return p.refusal()
}

// opener opens a client's connections in place of the client's own dialer, which is the user's. It
// is a hook: a hook belongs to one client, while a dialer is part of the options, from which users
// make other clients.
//
// It ignores what comes after it in the chain, so it has to be the last hook. A hook that the user
// adds later comes after it: then the next dial adds another opener, and goes through the user's
// hook to that one.
type opener struct {
	node  *node
	after int64 // node.hooksAdded when it was added; -1 before
}

// addOpener makes a new opener the client's last hook.
func (n *node) addOpener() { n.client.AddHook(&opener{node: n, after: -1}) }

// DialHook opens connections, unless a later opener does. go-redis calls it in the AddHook that adds
// the opener, under its own lock and before it calls earlier hooks, and then for each chain that it
// builds. Only chains that AddHook builds are used for dials.
func (o *opener) DialHook(redis.DialHook) redis.DialHook {
	n := o.node
	if o.after < 0 {
		o.after = n.hooksAdded.Load()
		n.opener.Store(o)
	}
	if n.opener.Load() != o {
		return nil
	}
	return n.pool.open
}

// isLast reports whether no hook was added after the opener.
func (o *opener) isLast() bool {
	return o == nil || o.node.pool.reduced != nil || o.node.hooksAdded.Load() == o.after+1
}

// ProcessHook does nothing.
func (*opener) ProcessHook(redis.ProcessHook) redis.ProcessHook { return nil }

// ProcessPipelineHook does nothing.
func (*opener) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook { return nil }

// dialChain returns the client's hooks after the pool's own, with an opener at their end. next is
// what followed when the chain in use was built.
func (h *hook) dialChain(next redis.DialHook) redis.DialHook {
	n := h.node
	for {
		if now := h.dialNext.Load(); now != nil {
			next = *now
		}
		if n.opener.Load().isLast() {
			return next
		}
		n.opening.Lock()
		if !n.opener.Load().isLast() {
			h.reopens.Store(true)
			n.addOpener() // go-redis builds the chain anew, and calls DialHook of h
			h.reopens.Store(false)
		}
		n.opening.Unlock()
	}
}
