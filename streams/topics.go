package streams

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/event"
	"github.com/poolkeeper/poolkeeper/internal/monotime"
)

// topics is who is subscribed to what, and the last events of each topic.
//
// One mutex orders all events of a hub: each stream gets them in the order of their numbers,
// whatever topics it is subscribed to. So the last number that a client has seen says what it has
// missed.
type topics struct {
	epoch     string // begins the IDs of this hub: those of another instance are not taken for its own
	keep      int    // events of each topic
	forgetFor time.Duration

	mu        sync.Mutex // guards the following
	byName    map[string]*topic
	seq       uint64 // of the last event
	forgotten uint64 // the last event of a topic that was forgotten
	sweep     *time.Timer
	closed    bool
}

// topic is one topic. topics.mu guards it.
type topic struct {
	subs  []*Stream  // each knows its index: Stream.topics
	ring  []*message // the last events, the oldest at next once it is full
	next  int
	floor uint64        // events up to this number are not in ring, and may be of this topic
	empty monotime.Time // since when it has no subscribers; 0: it has
}

func newTopics(cfg *Config) *topics {
	return &topics{epoch: rand.Text()[:8], keep: cfg.Replay, forgetFor: cfg.ReplayFor, byName: map[string]*topic{}}
}

// publish puts an event into the buffers of all subscribers of a topic. It returns those that have
// no room for it.
func (ts *topics) publish(name string, e *Event) (slow []*Stream, err error) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.closed {
		return nil, poolkeeper.ErrClosed
	}
	ts.seq++
	id := e.ID
	if id == "" {
		id = ts.epoch + "-" + strconv.FormatUint(ts.seq, 36)
	}
	t := ts.byName[name]
	if t == nil {
		if ts.keep == 0 {
			return nil, nil
		}
		t = ts.createLocked(name)
	}
	m := e.encode(id)
	m.seq = ts.seq
	t.remember(m, ts.keep)
	for _, s := range t.subs {
		if s.push(m) {
			slow = append(slow, s)
		}
	}
	return slow, nil
}

func (ts *topics) createLocked(name string) *topic {
	t := &topic{floor: ts.forgotten}
	if ts.keep == 0 {
		t.floor = ts.seq
	}
	ts.byName[name] = t
	ts.emptyLocked(t)
	return t
}

// remember keeps m, and drops the oldest event if there is no room.
func (t *topic) remember(m *message, most int) {
	switch {
	case most == 0:
		t.floor = m.seq
	case len(t.ring) < most:
		t.ring = append(t.ring, m)
	default:
		t.floor = t.ring[t.next].seq
		t.ring[t.next] = m
		t.next = (t.next + 1) % most
	}
}

// subscribe adds s to topics. The first subscription of a stream that has a last event also
// delivers what has followed that one.
func (ts *topics) subscribe(s *Stream, names []string) error {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.closed || s.left {
		return poolkeeper.ErrClosed
	}
	first := s.topics == nil
	if first {
		s.topics = make(map[string]int, len(names))
	}
	for _, name := range names {
		t := ts.byName[name]
		if t == nil {
			t = ts.createLocked(name)
		}
		if _, already := s.topics[name]; !already {
			s.topics[name] = len(t.subs)
			t.subs = append(t.subs, s)
			t.empty = 0
		}
	}
	if first && s.lastID != "" {
		s.resume(ts.sinceLocked(s.lastID, names))
	}
	return nil
}

// sinceLocked returns the events of topics that followed the one with an ID, in order. complete is
// false if there may have been others.
func (ts *topics) sinceLocked(lastID string, names []string) (missed []*message, complete bool) {
	last, known := ts.positionLocked(lastID, names)
	if !known {
		return nil, false
	}
	complete = true
	names = slices.Compact(slices.Sorted(slices.Values(names)))
	for _, name := range names {
		t := ts.byName[name]
		complete = complete && t.floor <= last
		for _, m := range t.ring {
			if m.seq > last {
				missed = append(missed, m)
			}
		}
	}
	slices.SortFunc(missed, func(a, b *message) int { return cmp.Compare(a.seq, b.seq) })
	return missed, complete
}

// positionLocked returns the number of the event with an ID: one of ours says it, one of the
// service's is looked for.
func (ts *topics) positionLocked(id string, names []string) (seq uint64, known bool) {
	if number, ours := strings.CutPrefix(id, ts.epoch+"-"); ours {
		if n, err := strconv.ParseUint(number, 36, 64); err == nil && n <= ts.seq {
			return n, true
		}
	}
	for _, name := range names {
		for _, m := range ts.byName[name].ring {
			if m.id == id && m.seq > seq {
				seq, known = m.seq, true
			}
		}
	}
	return seq, known
}

// unsubscribe takes s out of topics; of all if it has left.
func (ts *topics) unsubscribe(s *Stream, names []string, left bool) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if left {
		s.left = true
		for name := range s.topics {
			ts.removeLocked(s, name)
		}
		return
	}
	for _, name := range names {
		ts.removeLocked(s, name)
	}
}

func (ts *topics) removeLocked(s *Stream, name string) {
	at, in := s.topics[name]
	if !in {
		return
	}
	delete(s.topics, name)
	t := ts.byName[name]
	last := len(t.subs) - 1
	if at != last {
		moved := t.subs[last]
		t.subs[at] = moved
		moved.topics[name] = at
	}
	t.subs[last] = nil
	t.subs = t.subs[:last]
	if last == 0 {
		t.subs = nil
		ts.emptyLocked(t)
	}
}

// emptyLocked takes note that t has no subscribers, and arms the sweep.
func (ts *topics) emptyLocked(t *topic) {
	t.empty = monotime.Now()
	if ts.sweep == nil && !ts.closed {
		ts.sweep = time.AfterFunc(ts.forgetFor, ts.forget)
	}
}

// forget drops the topics that had no subscribers for long. It runs while there are any without.
func (ts *topics) forget() {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ts.sweep = nil
	if ts.closed {
		return
	}
	var oldest monotime.Time
	for name, t := range ts.byName {
		switch {
		case t.empty == 0:
		case monotime.Since(t.empty) >= ts.forgetFor:
			for _, m := range t.ring {
				ts.forgotten = max(ts.forgotten, m.seq)
			}
			ts.forgotten = max(ts.forgotten, t.floor)
			delete(ts.byName, name)
		case oldest == 0 || t.empty < oldest:
			oldest = t.empty
		}
	}
	if oldest != 0 {
		ts.sweep = time.AfterFunc(max(ts.forgetFor-monotime.Since(oldest), time.Millisecond), ts.forget)
	}
}

// close refuses events and subscriptions from now on, and forgets all.
func (ts *topics) close() {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ts.closed = true
	if ts.sweep != nil {
		ts.sweep.Stop()
	}
	for name, t := range ts.byName {
		for _, s := range t.subs {
			delete(s.topics, name)
		}
	}
	clear(ts.byName)
}

// subscribers returns how many each topic has.
func (ts *topics) subscribers() map[string]int {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	n := make(map[string]int, len(ts.byName))
	for name, t := range ts.byName {
		n[name] = len(t.subs)
	}
	return n
}

// Broadcast sends an event to every stream that is subscribed to the topic, and keeps it for
// clients that reconnect. It puts the event into the buffer of each stream and waits for no peer. A
// stream whose buffer is full is dealt with as Config.Overflow says. All streams get the events of a
// hub in the same order.
//
// It fails if the event's ID or Type has a line break, and with poolkeeper.ErrClosed after Stop.
// While the hub drains, events reach the streams that are still open.
func (h *Hub) Broadcast(topic string, e Event) error {
	if err := e.check(); err != nil {
		return err
	}
	slow, err := h.topics.publish(topic, &e)
	for _, s := range slow {
		h.dropSlow(s, topic)
	}
	if err != nil {
		return fmt.Errorf("%s: broadcast of %q to %q: %w", pkg, h.state.Name(), topic, err)
	}
	return nil
}

// dropSlow ends a stream whose buffer is full. It has WriteTimeout to take what is being written and
// the close message.
func (h *Hub) dropSlow(s *Stream, topic string) {
	s.finish(endSlow)
	time.AfterFunc(h.cfg.WriteTimeout, func() { s.finish(endCut) })
	h.events.Emit(event.Event{
		Kind: event.Limits, Level: slog.LevelInfo, Text: "a client reads too slowly: the buffer of its stream is full, and it is dropped",
		Attrs: []slog.Attr{
			slog.String("stream", s.kind), slog.String("topic", topic), slog.Int("buffer", h.cfg.Buffer),
			slog.Duration("age", monotime.Since(s.since).Round(time.Millisecond)),
		},
	})
}
