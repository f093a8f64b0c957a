package health

import (
	"fmt"
	"slices"
	"time"
)

// Heartbeat is the only thing liveness consists of: a loop inside this process that says "I still
// turn". The handler compares the last beat with the clock and calls nothing.
type Heartbeat struct {
	m *Monitor
	h *heart
}

// Heartbeat adds a heartbeat that counts as missed when the last beat is older than maxAge. The
// time of the call counts as a beat, and so does Start. An empty or taken name, and a maxAge that
// is not positive, are errors. Before Start, while draining and after Stop a silent heart fails
// nothing.
//
// Beat from the loop that could hang, never for something outside the process: a database that is
// down would have the orchestrator restart every replica.
func (m *Monitor) Heartbeat(name string, maxAge time.Duration) (*Heartbeat, error) {
	if err := validName(name); err != nil {
		return nil, fmt.Errorf("health: heartbeat %q: name: %w", name, err)
	}
	if maxAge <= 0 {
		return nil, fmt.Errorf("health: heartbeat %q: maxAge %v is not positive", name, maxAge)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	at, found := slices.BinarySearchFunc(m.heartbeats, name, byHeart)
	if found {
		return nil, fmt.Errorf("health: heartbeat %q: %w", name, ErrDuplicate)
	}
	h := &Heartbeat{m, &heart{name: name, maxAge: maxAge}}
	h.Beat()
	m.heartbeats = slices.Insert(slices.Clone(m.heartbeats), at, h.h)
	m.publishLocked(m.clock.now())
	return h, nil
}

// Beat says that the loop still turns. It costs a look at the clock and one store, and blocks on
// nothing.
func (h *Heartbeat) Beat() { h.h.last.Store(h.m.clock.now()) }

// Stop takes the heartbeat out, for a loop that ends on purpose. May be called more than once.
func (h *Heartbeat) Stop() {
	m := h.m
	m.mu.Lock()
	defer m.mu.Unlock()
	at, found := slices.BinarySearchFunc(m.heartbeats, h.h.name, byHeart)
	if !found || m.heartbeats[at] != h.h {
		return
	}
	m.heartbeats = slices.Delete(slices.Clone(m.heartbeats), at, at+1)
	m.publishLocked(m.clock.now())
}

// Format prints the name of the heartbeat, for every verb: fmt would read what changes meanwhile.
func (h *Heartbeat) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "health.Heartbeat{%s}", h.h.name)
}
