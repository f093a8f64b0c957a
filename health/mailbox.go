package health

import (
	"container/list"
	"context"
	"sync"

	"github.com/poolkeeper/poolkeeper/internal/guard"
)

// Watch returns a channel that tells every change of a check or a group from now on. A slow reader
// does not block the monitor. Changes of the same check or group that it has not taken yet are
// merged into one. They vanish when they end where they began, or when the check is removed. Call
// Watch first and Report second, then nothing is missed in between.
//
// The channel is closed when ctx ends or the monitor is stopped, which loses what was not taken
// until then.
func (m *Monitor) Watch(ctx context.Context) <-chan Transition {
	ch := make(chan Transition)
	box := newMailbox()
	box.deliver = func(t Transition) {
		select {
		case ch <- t:
		case <-box.stop:
		}
	}
	box.closed = func() { close(ch) }
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.phase == stopped {
		box.finish()
		return ch
	}
	m.listeners[box] = struct{}{}
	box.unhook = context.AfterFunc(ctx, func() {
		m.mu.Lock()
		delete(m.listeners, box)
		m.mu.Unlock()
		box.finish()
	})
	return ch
}

// mailbox hands transitions to one listener, one at a time and without a lock. It has a goroutine
// only while there is something to hand over. It holds one transition per check and group at most,
// and finds it in constant time: offers are made under the monitor's lock.
//
//	offer ──▶ pending (merged by subject) ──▶ run ──deliver──▶ listener
type mailbox struct {
	deliver func(Transition) // may block until stop is closed, or as long as the listener likes
	closed  func()           // called once, when nothing will be delivered any more; may be nil
	unhook  func() bool      // called by finish; may be nil
	stop    chan struct{}    // closed by finish

	mu       sync.Mutex // guards everything below
	pending  list.List  // of Transition, oldest first
	at       map[subject]*list.Element
	idle     chan struct{} // closed when no goroutine delivers
	busy     bool          // a goroutine delivers
	finished bool
}

// subject is what a transition is about.
type subject struct{ check, group string }

func newMailbox() *mailbox {
	idle := make(chan struct{})
	close(idle)
	return &mailbox{stop: make(chan struct{}), idle: idle, at: make(map[subject]*list.Element)}
}

// newCallbackBox calls f for what is offered; what was offered before finish is still delivered
// after it. A panic or Goexit of f is passed to failed.
func newCallbackBox(f func(Transition), failed func(error)) *mailbox {
	box := newMailbox()
	box.deliver = func(t Transition) {
		if err := guard.Call(func() { f(t) }); err != nil {
			failed(err)
		}
	}
	return box
}

// offer never blocks.
func (b *mailbox) offer(t Transition) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.finished {
		return
	}
	about := subject{t.Check, t.Group}
	if el, ok := b.at[about]; ok {
		p, _ := b.pending.Remove(el).(Transition)
		delete(b.at, about)
		t.From, t.Lasted = p.From, p.Lasted
	}
	if t.From == t.To {
		return
	}
	b.at[about] = b.pending.PushBack(t)
	if !b.busy {
		b.busy, b.idle = true, make(chan struct{})
		// Owner: the mailbox. Stop signal: nothing left to deliver, or for Watch the channel stop.
		// Waiter: Stop of the monitor, by idle.
		go b.run()
	}
}

// forget drops what is pending about a check or group that is gone, or a listener that takes
// nothing would keep every name there ever was.
func (b *mailbox) forget(about subject) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if el, ok := b.at[about]; ok {
		b.pending.Remove(el)
		delete(b.at, about)
	}
}

func (b *mailbox) run() {
	for {
		t, ok := b.take()
		if !ok {
			return
		}
		b.deliver(t)
	}
}

// take returns the oldest transition, or ends the delivery.
func (b *mailbox) take() (Transition, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	first := b.pending.Front()
	if first == nil {
		b.busy = false
		close(b.idle)
		if b.finished && b.closed != nil {
			b.closed()
		}
		return Transition{}, false
	}
	t, _ := b.pending.Remove(first).(Transition)
	delete(b.at, subject{t.Check, t.Group})
	return t, true
}

// finish ends the mailbox: nothing more is offered.
func (b *mailbox) finish() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.finished {
		return
	}
	b.finished = true
	close(b.stop)
	if b.unhook != nil {
		b.unhook()
	}
	if !b.busy && b.closed != nil {
		b.closed()
	}
}

// delivered is closed when the listener has returned from what it was last given.
func (b *mailbox) delivered() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.idle
}
