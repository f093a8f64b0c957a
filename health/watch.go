package health

import (
	"container/list"
	"log/slog"
	"sync"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/guard"
)

// Transition is a change of the status of one check or one group.
type Transition struct {
	// Check is the check that changed; empty when a group did.
	Check string
	// Group is the group that changed; empty when a check did.
	Group string
	// From and To are never the same. Changes that were merged show the oldest From and the newest
	// To.
	From, To Status
	// At is when To was reached.
	At time.Time
	// Since is when what led to To began: for a failed check, the first of the failed runs; else
	// At.
	Since time.Time
	// Lasted is how long From was the status; of a failed check, from the first of the failed runs
	// on.
	Lasted time.Duration
	// Failures is how many runs of the check had failed in a row by then.
	Failures int
	// Impact is that of the check.
	Impact Impact
	// Err is why, when To is warn or fail; see [CheckReport.Err]. Nil for a group.
	Err error
	// Fault is Err classified.
	Fault Fault
	// Reason is the line of [GroupReport.Reason] for a group, and the text of Err for a check.
	Reason string
	// CausedBy is as in [CheckReport].
	CausedBy []string
}

// LogValue makes slog print the fields that say something.
func (t Transition) LogValue() slog.Value {
	attrs := make([]slog.Attr, 0, 10)
	if t.Check != "" {
		attrs = append(attrs, slog.String("check", t.Check))
	}
	if t.Group != "" {
		attrs = append(attrs, slog.String("group", t.Group))
	}
	attrs = append(attrs, slog.String("from", t.From.String()), slog.String("to", t.To.String()))
	if t.Fault.Kind != KindNone {
		attrs = append(attrs, slog.String("kind", string(t.Fault.Kind)))
	}
	if t.Reason != "" {
		attrs = append(attrs, slog.String("reason", t.Reason))
	}
	if t.Fault.Advice != "" {
		attrs = append(attrs, slog.String("advice", t.Fault.Advice))
	}
	if len(t.CausedBy) > 0 {
		attrs = append(attrs, slog.Any("caused_by", t.CausedBy))
	}
	if t.From != StatusUnknown {
		attrs = append(attrs, slog.Duration("lasted", t.Lasted))
	}
	if t.Failures > 0 {
		attrs = append(attrs, slog.Int("failures", t.Failures))
	}
	return slog.GroupValue(attrs...)
}

// listener delivers transitions to one function or channel, one at a time and without a lock. It
// has a goroutine only while there is something to deliver. It holds one transition per check and
// group at most, and finds it in constant time: offers are made under the monitor's lock.
//
//	offer ──▶ pending (merged by subject) ──▶ run ──▶ deliver
type listener struct {
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

func newListener() *listener {
	idle := make(chan struct{})
	close(idle)
	return &listener{stop: make(chan struct{}), idle: idle, at: make(map[subject]*list.Element)}
}

// newChannel returns a listener that delivers to ch. Finishing it closes ch.
func newChannel(ch chan<- Transition) *listener {
	l := newListener()
	l.deliver = func(t Transition) {
		select {
		case ch <- t:
		case <-l.stop:
		}
	}
	l.closed = func() { close(ch) }
	return l
}

// newCallback returns a listener that calls f. What was offered before finish is still delivered
// after it. A panic or Goexit of f is passed to failed.
func newCallback(f func(Transition), failed func(error)) *listener {
	l := newListener()
	l.deliver = func(t Transition) {
		if err := guard.Call(func() { f(t) }); err != nil {
			failed(err)
		}
	}
	return l
}

// offer never blocks.
func (l *listener) offer(t Transition) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.finished {
		return
	}
	about := subject{t.Check, t.Group}
	if el, ok := l.at[about]; ok {
		p, _ := l.pending.Remove(el).(Transition)
		delete(l.at, about)
		t.From, t.Lasted = p.From, p.Lasted
	}
	if t.From == t.To {
		return
	}
	l.at[about] = l.pending.PushBack(t)
	if !l.busy {
		l.busy, l.idle = true, make(chan struct{})
		// Owner: the listener. Stop signal: nothing left to deliver, or for Watch the channel stop.
		// Waiter: Stop of the monitor, by idle.
		go l.run()
	}
}

// forget drops what is pending about a check or group that is gone, or a listener that takes
// nothing would keep every name there ever was.
func (l *listener) forget(about subject) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if el, ok := l.at[about]; ok {
		l.pending.Remove(el)
		delete(l.at, about)
	}
}

func (l *listener) run() {
	for {
		t, ok := l.take()
		if !ok {
			return
		}
		l.deliver(t)
	}
}

// take returns the oldest transition, or ends the delivery.
func (l *listener) take() (Transition, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	first := l.pending.Front()
	if first == nil {
		l.busy = false
		close(l.idle)
		if l.finished && l.closed != nil {
			l.closed()
		}
		return Transition{}, false
	}
	t, _ := l.pending.Remove(first).(Transition)
	delete(l.at, subject{t.Check, t.Group})
	return t, true
}

// finish ends the listener: nothing more is offered.
func (l *listener) finish() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.finished {
		return
	}
	l.finished = true
	close(l.stop)
	if l.unhook != nil {
		l.unhook()
	}
	if !l.busy && l.closed != nil {
		l.closed()
	}
}

// delivered is closed when the listener has returned from what it was last given.
func (l *listener) delivered() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.idle
}
