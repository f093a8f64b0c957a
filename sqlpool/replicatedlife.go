package sqlpool

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/life"
)

var errSibling = errors.New("sqlpool: another pool of the same component has failed")

// each calls f for every member at once, waits for all, and joins what they return.
func (r *replication) each(f func(m *member) error) error {
	errs := make([]error, len(r.members))
	var all sync.WaitGroup
	for i, m := range r.members {
		all.Go(func() { errs[i] = m.events.Guarded("a hook", func() error { return f(m) }) }) // ends when f does; waited for below
	}
	all.Wait()
	return errors.Join(errs...)
}

func (r *replication) enter(p life.Phase) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.phase = max(r.phase, p)
}

// refusal is why nothing can be changed any more, or nil.
func (r *replication) refusal() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.phase.Refusal()
}

// Start starts all pools at once, each as its own Config.Start says, looks at every server, and
// goes on looking. It blocks until then, at most until ctx ends. If one pool cannot start, what has
// been started is closed for good, and Start returns why: make another one to try again.
func (r *replication) Start(ctx context.Context) error {
	if err := r.beginStart(); err != nil {
		return err
	}
	starting, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	err := r.each(func(m *member) error {
		startErr := m.pool.Start(starting)
		if startErr != nil && errors.Is(context.Cause(starting), errSibling) {
			return nil // the first has the reason
		}
		if startErr != nil {
			cancel(errSibling)
		}
		return startErr
	})
	if err != nil {
		return errors.Join(err, r.Abort()) //nolint:contextcheck // Abort is for when no time is left
	}
	_ = r.lookAtAll(ctx) // a server that was not looked at is looked at later
	r.run()
	r.settle()
	return nil
}

// run begins the rounds.
func (r *replication) run() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.phase == life.Starting {
		r.phase = life.Running
	}
	for _, m := range r.members {
		m.rounds.start() // does nothing after a stop that has come meanwhile
	}
}

// lookAtAll looks at every server at once, and returns for each why it was not looked at, or nil. A
// silent one delays nothing that is noted of the others. Replicas whose lag is not told before the
// primary is known are looked at once more.
func (r *replication) lookAtAll(ctx context.Context) []error {
	errs := make([]error, len(r.members))
	known := make(chan struct{}) // closed when the primary was looked at
	var all sync.WaitGroup
	for i, m := range r.members {
		all.Go(func() { // ends when its looks do, which ctx and LookTimeout bound; waited for below
			if i == 0 {
				defer close(known)
			}
			errs[i] = r.look(ctx, m)
			if i == 0 {
				return
			}
			<-known
			if r.unsettled(m) {
				_ = r.look(ctx, m) // it was looked at already
			}
		})
	}
	all.Wait()
	return errs
}

func (r *replication) beginStart() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.phase.CanStart("sqlpool"); err != nil {
		return fmt.Errorf("sqlpool: start %q: %w", r.name, err)
	}
	r.phase = life.Starting
	return nil
}

// Drain refuses new work on every pool, as its own Drain does, and waits for the work in flight on
// all of them at once. It blocks at most until ctx ends. Its error then names the pools and how
// many connections are held, and Holders lists them.
func (r *replication) Drain(ctx context.Context) error {
	r.enter(life.Draining)
	return r.each(func(m *member) error { return m.pool.Drain(ctx) })
}

// Stop ends the looks, and drains and closes every pool at once, as its own Stop does. It returns
// by the end of ctx; errors of all pools are joined and named. It may be called without Start, more
// than once and concurrently.
func (r *replication) Stop(ctx context.Context) error {
	r.endLooks()
	err := r.each(func(m *member) error { return errors.Join(m.rounds.wait(ctx), m.pool.Stop(ctx)) })
	if p := r.refuser(); p != nil {
		err = errors.Join(err, p.Stop(ctx))
	}
	r.enter(life.Stopped)
	return err
}

// Abort is a Stop that does not wait for callers. It also ends a Stop under way.
func (r *replication) Abort() error {
	r.endLooks()
	err := r.each(func(m *member) error { return m.pool.Abort() })
	if p := r.refuser(); p != nil {
		err = errors.Join(err, p.Abort())
	}
	grace, cancel := context.WithTimeout(context.Background(), abortGrace) //nolint:forbidigo // Abort has no caller's context
	defer cancel()
	for _, m := range r.members {
		err = errors.Join(err, m.rounds.wait(grace))
	}
	r.enter(life.Stopped)
	return err
}

// endLooks ends the looks under way too: a pool's Stop waits for its connection of checks.
func (r *replication) endLooks() {
	r.enter(life.Stopping)
	for _, m := range r.members {
		m.rounds.stop()
	}
}

func (r *replication) refuser() watched {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.nowhere
}

// Pause makes callers of every pool wait instead of failing, as its own Pause does: for a failover
// that is planned. If one pool cannot be paused within ctx, none is. To pause one alone, use its
// own Pause.
func (r *replication) Pause(ctx context.Context) error {
	err := r.each(func(m *member) error { return m.pool.Pause(ctx) })
	if err != nil {
		r.Resume()
	}
	return err
}

// Resume ends a Pause, and waiting callers go on. It does not block.
func (r *replication) Resume() {
	for _, m := range r.members {
		m.pool.Resume()
	}
}

// Reset throws away every connection of every pool, as its own Reset does. It does not block.
func (r *replication) Reset() {
	for _, m := range r.members {
		m.pool.Reset()
	}
}

// Reload replaces the configuration while the component works: MaxLag, LookInterval, LookTimeout
// and Fallback hold at once, and each pool is reloaded as by its own Reload, one after the other;
// if one refuses, those before it are put back. The number of replicas and their names cannot
// change. It blocks at most until ctx ends.
func (r *replication) Reload(ctx context.Context, cfg ReplicatedConfig) error {
	r.mu.Lock()
	name := r.name
	r.mu.Unlock()
	if err := r.changing.Take(ctx); err != nil {
		return fmt.Errorf("sqlpool: reload %q: another is under way: %w", name, err)
	}
	defer r.changing.End()
	old := r.conf.Load()
	if err := r.reloadable(old, cfg); err != nil {
		return fmt.Errorf("sqlpool: reload %q: nothing was changed: %w", name, err)
	}
	next := cfg.withDefaults()
	next.Name = old.Name
	if err := r.prepareFallback(&next); err != nil {
		return fmt.Errorf("sqlpool: reload %q: nothing was changed: %w", name, err)
	}
	if err := r.reloadMembers(ctx, old.members(), cfg.members()); err != nil {
		return err
	}
	r.conf.Store(&next)
	r.mu.Lock()
	changed := r.chooseLocked(time.Now())
	r.mu.Unlock()
	for _, c := range changed {
		c.member.events.Emit(c.event())
	}
	for _, m := range r.members {
		m.rounds.hurry()
	}
	return nil
}

func (r *replication) reloadable(old *ReplicatedConfig, cfg ReplicatedConfig) error {
	errs := []error{cfg.Validate(), cfg.foreign(r.kind.scheme), r.refusal()}
	if cfg.Name != "" && cfg.Name != old.Name {
		errs = append(errs, fmt.Errorf("sqlpool: Name cannot change while the pool lives (%s, wanted %s)", old.Name, cfg.Name))
	}
	if a, b := len(old.Replicas), len(cfg.Replicas); a != b {
		return errors.Join(append(errs, fmt.Errorf("sqlpool: the number of Replicas is fixed when the pools are made (%d, wanted %d)", a, b))...)
	}
	next := cfg.members()
	for i, m := range r.members {
		if next[i].Name != m.name {
			errs = append(errs, fmt.Errorf("sqlpool: the name of a replica cannot change (%s, wanted %s)", m.name, next[i].Name))
		}
	}
	return errors.Join(errs...)
}

// reloadMembers reloads every pool, or none.
func (r *replication) reloadMembers(ctx context.Context, old, next []Config) error {
	for i, m := range r.members {
		next[i].Name = "" // stays what it is
		err := m.pool.Reload(ctx, next[i])
		if err == nil {
			continue
		}
		back := context.WithoutCancel(ctx) // each is bounded by its DialTimeout
		for j := range i {
			old[j].Name = ""
			if backErr := r.members[j].pool.Reload(back, old[j]); backErr != nil {
				err = errors.Join(err, fmt.Errorf("and could not be put back: %w", backErr))
			}
		}
		return err
	}
	return nil
}
