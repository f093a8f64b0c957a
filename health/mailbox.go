package health

import (
	"context"
	"sync"
)

// Watch returns a channel that tells every change of a check or a group from now on. A reader that is slow blocks
// nobody: changes of the same check or group that it has not taken yet are merged into one, and vanish when they end
// where they began. Call Watch first and Report second, then nothing is missed in between.
//
// The channel is closed when ctx ends, or after Stop; what was not taken until then is lost.
func (m *Monitor) Watch(ctx context.Context) <-chan Transition {
	ch := make(chan Transition)
	box := &mailbox{stop: make(chan struct{})}
	box.deliver = func(t Transition) bool {
		select {
		case ch <- t:
			return true
		case <-box.stop:
			return false
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
	unhook := context.AfterFunc(ctx, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.listeners, box)
		box.finish()
	})
	box.unhook = func() { unhook() }
	return ch
}

// mailbox hands transitions to one listener, one at a time. It has a goroutine only while there is something to hand
// over.
type mailbox struct {
	deliver func(Transition) bool // called without lock; false: the listener is gone
	closed  func()                // called once, after the last delivery; may be nil
	unhook  func()                // may be nil
	stop    chan struct{}         // closed by finish

	mu       sync.Mutex // guards what follows
	pending  []Transition
	busy     bool // a goroutine is delivering
	finished bool
}

type subject struct{ check, group string }

func newCallbackBox(f func(Transition)) *mailbox {
	return &mailbox{stop: make(chan struct{}), deliver: func(t Transition) bool { f(t); return true }}
}

// offer never blocks.
func (b *mailbox) offer(t Transition) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.finished {
		return
	}
	for i, p := range b.pending {
		if p.Check != t.Check || p.Group != t.Group {
			continue
		}
		t.From = p.From
		b.pending = append(b.pending[:i], b.pending[i+1:]...)
		break
	}
	if t.From == t.To {
		return
	}
	b.pending = append(b.pending, t)
	if !b.busy {
		b.busy = true
		// Owner: the mailbox. Stop signal: b.stop, or nothing left to deliver. Waiter: whoever reads until the channel is
		// closed; for a callback nobody, because it may call Stop itself.
		go b.run()
	}
}

func (b *mailbox) run() {
	for {
		t, ok := b.take()
		if !ok {
			return
		}
		if !b.deliver(t) {
			b.mu.Lock()
			b.pending = nil
			b.mu.Unlock()
		}
	}
}

// take returns the oldest pending transition, or ends the delivery.
func (b *mailbox) take() (Transition, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.pending) == 0 {
		b.busy = false
		if b.finished && b.closed != nil {
			b.closed()
		}
		return Transition{}, false
	}
	t := b.pending[0]
	b.pending = b.pending[1:]
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
