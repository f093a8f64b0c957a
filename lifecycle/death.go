package lifecycle

import (
	"reflect"
	"sync"
	"time"
)

// deathWatch waits for components that can end by themselves: one goroutine for up to diersPerWatcher of them.
type deathWatch struct {
	r *Registry

	mu       sync.Mutex // guards the following
	watchers []*watcher
	stopped  bool
	running  sync.WaitGroup
	quit     chan struct{} // closed by stop
}

// diersPerWatcher bounds what a watcher has to look at when one of its components ends or a new one comes.
const diersPerWatcher = 64

// watcher is a goroutine that waits for several channels. Owner: the deathWatch; it ends when quit is closed; stop
// waits for it.
type watcher struct {
	poke    chan struct{} // 1 buffered: there are newcomers
	members int           // guarded by deathWatch.mu
	coming  []dier        // guarded by deathWatch.mu
}

// dier is one component between its start and its death.
type dier struct {
	n     *node
	epoch int
	done  <-chan error
}

func newDeathWatch(r *Registry) *deathWatch {
	return &deathWatch{r: r, quit: make(chan struct{})}
}

// watch begins to wait for the death of a component that has come up.
func (d *deathWatch) watch(m dier) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopped {
		return
	}
	var w *watcher
	for _, each := range d.watchers {
		if each.members < diersPerWatcher {
			w = each
			break
		}
	}
	if w == nil {
		w = &watcher{poke: make(chan struct{}, 1)}
		d.watchers = append(d.watchers, w)
		d.running.Go(func() { d.run(w) })
	}
	w.members++
	w.coming = append(w.coming, m)
	select {
	case w.poke <- struct{}{}:
	default:
	}
}

// stop ends all watchers and waits for them.
func (d *deathWatch) stop() {
	d.mu.Lock()
	if !d.stopped {
		d.stopped = true
		close(d.quit)
	}
	d.mu.Unlock()
	d.running.Wait()
}

const reserved = 2 // cases before those of the members: quit and poke

func (d *deathWatch) run(w *watcher) {
	d.r.unlabel()
	receive := func(ch any) reflect.SelectCase {
		return reflect.SelectCase{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(ch)}
	}
	cases := []reflect.SelectCase{receive(d.quit), receive(w.poke)}
	var members []dier
	for {
		chosen, value, _ := reflect.Select(cases)
		if chosen == 0 {
			return
		}
		gone := map[int]error{} // members by index
		if chosen >= reserved {
			gone[chosen-reserved], _ = reflect.TypeAssert[error](value) // nil for a closed channel: it has completed
		}
		alsoGone(members, gone)
		for i, err := range gone {
			d.r.died(members[i].n, members[i].epoch, err)
		}
		members = d.update(w, members, gone)
		cases = cases[:reserved]
		for _, m := range members {
			cases = append(cases, receive(m.done))
		}
	}
}

// alsoGone adds the members that are gone now as well: what dies together is seen together.
func alsoGone(members []dier, gone map[int]error) {
	for i, m := range members {
		if _, seen := gone[i]; seen {
			continue
		}
		select {
		case err := <-m.done:
			gone[i] = err
		default:
		}
	}
}

// update returns the members without those that are gone, and with the newcomers.
func (d *deathWatch) update(w *watcher, members []dier, gone map[int]error) []dier {
	kept := make([]dier, 0, len(members))
	for i, m := range members {
		if _, ok := gone[i]; !ok {
			kept = append(kept, m)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	w.members -= len(gone)
	kept = append(kept, w.coming...)
	w.coming = nil
	return kept
}

// died takes note that a component has ended by itself, unless that is no news: it is being stopped, or was restarted.
func (r *Registry) died(n *node, epoch int, err error) {
	now := r.now()
	r.mu.Lock()
	if n.epoch != epoch {
		r.mu.Unlock()
		return
	}
	lived := now.since(n.since)
	if err == nil {
		if r.becomeLocked(n, StateCompleted, now) {
			r.emitLocked(levelInfo, func(i Info) Event { i.Elapsed = lived; return &Completed{i} }, n, PhaseRun)
		}
		r.mu.Unlock()
		return
	}
	if !r.becomeLocked(n, StateDead, now) {
		r.mu.Unlock()
		return
	}
	death := &ComponentError{Name: n.name, Phase: PhaseRun, Elapsed: lived, Err: err}
	n.err = death
	r.emitLocked(levelError, func(i Info) Event {
		i.Elapsed, i.Err = lived, death
		return &Died{Info: i, Policy: n.onDeath}
	}, n, PhaseRun)
	after := r.mournLocked(n, death, lived)
	r.mu.Unlock()
	if after != nil {
		after()
	}
}

// mournLocked decides what follows from a death, and returns what is to be done about it without the lock.
func (r *Registry) mournLocked(n *node, death error, lived time.Duration) func() {
	switch {
	case n.onDeath == DeathIgnore || r.phase == phaseClosed:
		return nil
	case r.phase == phaseClosing:
		r.closing.deaths = append(r.closing.deaths, death)
		return nil
	case r.mender.coversLocked(n):
		return nil // it dies of what it depends on, and will come back with it
	case n.onDeath == DeathRestart:
		return r.mender.addLocked(n, lived)
	}
	return r.failLocked(death)
}

// failLocked shuts the registry down because of a failure, and returns what is to be done about it without the lock.
func (r *Registry) failLocked(failure error) func() {
	if r.phase == phaseStarting && r.boot != nil {
		r.boot.failLocked(failure)
		return r.boot.poke
	}
	c, first := r.enterClosingLocked(failure, true)
	if !first {
		return nil
	}
	ctx := r.base
	// Owner: the registry; it ends with the shutdown; callers of Shutdown and Run wait for it.
	return func() { go r.close(ctx, c) }
}
