package lifecycle

import (
	"log/slog"
	"reflect"
	"sync"
	"time"

	"github.com/poolkeeper/poolkeeper/lifecycle/event"
)

// deathWatch waits for components that can end by themselves: one goroutine for up to
// diersPerWatcher of them.
type deathWatch struct {
	r *Registry

	mu       sync.Mutex // guards the following
	watchers []*watcher
	place    map[*node]*watcher
	stopped  bool
	running  sync.WaitGroup
	quit     chan struct{} // closed by stop
}

// diersPerWatcher bounds what a watcher has to look at when one of its components ends or a new one
// comes.
const diersPerWatcher = 64

// watcher is a goroutine that waits for several channels. Owner: the deathWatch; it ends when quit
// is closed; stop waits for it.
type watcher struct {
	poke   chan struct{}          // 1 buffered: there are newcomers
	places int                    // components that have, or had, their place here; guarded by deathWatch.mu
	coming map[*node]<-chan error // newcomers; guarded by deathWatch.mu
}

// dier is one component between its start and its death.
type dier struct {
	n    *node
	done <-chan error
}

func newDeathWatch(r *Registry) *deathWatch {
	return &deathWatch{r: r, quit: make(chan struct{}), place: make(map[*node]*watcher)}
}

// watch begins to wait for the death of a component that has come up.
func (d *deathWatch) watch(m dier) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopped {
		return
	}
	w := d.place[m.n] // a component that was restarted has its place
	if w == nil {
		w = d.newPlaceLocked()
		d.place[m.n] = w
	}
	w.coming[m.n] = m.done
	select {
	case w.poke <- struct{}{}:
	default:
	}
}

// newPlaceLocked returns a watcher that can take one more.
func (d *deathWatch) newPlaceLocked() *watcher {
	if last := len(d.watchers) - 1; last >= 0 && d.watchers[last].places < diersPerWatcher {
		d.watchers[last].places++
		return d.watchers[last]
	}
	w := &watcher{poke: make(chan struct{}, 1), places: 1, coming: make(map[*node]<-chan error)}
	d.watchers = append(d.watchers, w)
	d.running.Go(func() { d.run(w) })
	return w
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
			d.r.died(members[i], err)
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

// update returns the members without those that are gone, and with the newcomers. A newcomer that
// was there before takes its own place.
func (d *deathWatch) update(w *watcher, members []dier, gone map[int]error) []dier {
	d.mu.Lock()
	defer d.mu.Unlock()
	kept := make([]dier, 0, len(members)+len(w.coming))
	for i, m := range members {
		_, left := gone[i]
		_, back := w.coming[m.n]
		if !left && !back {
			kept = append(kept, m)
		}
	}
	for n, done := range w.coming {
		kept = append(kept, dier{n, done})
	}
	clear(w.coming)
	return kept
}

// died takes note that a component has ended by itself, unless that is no news: it is being
// stopped, or was restarted.
func (r *Registry) died(m dier, err error) {
	now, n := r.now(), m.n
	r.mu.Lock()
	if n.done != m.done {
		r.mu.Unlock()
		return
	}
	lived := now.since(n.since)
	if err == nil {
		if r.becomeLocked(n, StateCompleted, now) {
			r.emitAboutLocked(slog.LevelInfo, func(i event.Info) event.Event { i.Elapsed = lived; return &event.Completed{Info: i} }, n, event.PhaseRun)
		}
		r.mu.Unlock()
		return
	}
	if !r.becomeLocked(n, StateDead, now) {
		r.mu.Unlock()
		return
	}
	death := &ComponentError{Name: n.name, Phase: event.PhaseRun, Elapsed: lived, Err: err}
	n.err = death
	r.emitAboutLocked(slog.LevelError, func(i event.Info) event.Event {
		i.Elapsed, i.Err = lived, death
		return &event.Died{Info: i, Policy: n.onDeath.String()}
	}, n, event.PhaseRun)
	after := r.onDeathLocked(n, death, lived)
	r.mu.Unlock()
	if after != nil {
		after()
	}
}

// onDeathLocked decides what follows from a death, and returns what is to be done about it without
// the lock.
func (r *Registry) onDeathLocked(n *node, death error, lived time.Duration) func() {
	switch {
	case n.onDeath == DeathPolicyIgnore || r.phase == phaseClosed:
		return nil
	case r.phase == phaseClosing:
		r.closing.deaths = append(r.closing.deaths, death)
		return nil
	case r.mender.coversLocked(n):
		return nil // it dies of what it depends on, and will come back with it
	case n.onDeath == DeathPolicyRestart:
		return r.mender.addLocked(n, lived)
	}
	return r.failLocked(death)
}

// failLocked shuts the registry down because of a failure, and returns what is to be done about it
// without the lock.
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
