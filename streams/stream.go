package streams

import (
	"context"
	"errors"
	"net/http"
	"runtime/pprof"
	"sync"
	"sync/atomic"

	"github.com/poolkeeper/poolkeeper/internal/guard"
	"github.com/poolkeeper/poolkeeper/internal/monotime"
)

// wire is the connection below a stream. write, keepAlive and announce are not called concurrently.
type wire interface {
	write(batch []*message) error // at most for WriteTimeout
	keepAlive() error             // at most for WriteTimeout
	announce(e *ending)           // tells the peer that the stream is over, and waits some seconds for its answer
	cut()                         // closes the connection: all calls under way return soon
}

// Stream is one connection that goes on until it is ended: what an SSE handler sends on, and a part
// of every [Conn]. All methods are safe for concurrent use. It is over when its handler returns.
//
//	 Broadcast, Send                      writer
//	─────────────────▶ buffer (Buffer) ──────────▶ connection, at most WriteTimeout for each write
//
// The writer is a goroutine that exists while there is something to write.
type Stream struct {
	hub     *Hub
	kind    string
	request *http.Request
	key     string
	lastID  string // Last-Event-ID
	site    string // where the handler was registered
	since   monotime.Time
	number  uint64 // the hub's streams, counted
	wire    wire

	ctx       context.Context //nolint:containedctx // the handler's: it ends with the stream
	cancel    context.CancelCauseFunc
	writer    func()          // s.write: to start a goroutine without an allocation
	room      chan struct{}   // 1 buffered: there may be room in the buffer
	ended     chan struct{}   // closed when nothing is written any more
	handled   chan struct{}   // closed when the handler has returned
	abandoned <-chan struct{} // closed when nobody waits for handlers any more
	following sync.Once
	followed  chan struct{} // closed by Follow
	missed    atomic.Bool

	// topics.mu guards the following.
	topics map[string]int // index among the subscribers of each topic
	left   bool

	mu     sync.Mutex // guards the following
	buffer []*message
	spare  []*message // of the last batch, for the next
	alive  bool       // a sign of life is due
	busy   bool       // a writer exists
	end    *ending    // nil: it is open
	told   bool       // the writer tells the peer that it is over, or has told it

	writing monotime.Time // since when a write is under way; 0: none is
}

// Request returns the request that has opened the stream. Its body is not for reading, and its
// context is not that of the stream: use the handler's.
func (s *Stream) Request() *http.Request { return s.request }

// Subscribe adds topics. Their events arrive from now on, in order. The first call on an SSE stream
// whose client has sent Last-Event-ID delivers before them what the client has missed, as far as it
// is kept: see Missed. It does not block. It fails when the stream or the hub is over.
func (s *Stream) Subscribe(topics ...string) error { return s.hub.topics.subscribe(s, topics) }

// Unsubscribe removes topics. Events already in the buffer are still sent.
func (s *Stream) Unsubscribe(topics ...string) { s.hub.topics.unsubscribe(s, topics, false) }

// Follow subscribes to topics and blocks until the stream ends. A handler that only passes broadcasts
// on needs nothing else. Messages from a WebSocket peer are discarded. It returns nil, or the error of
// Subscribe.
func (s *Stream) Follow(topics ...string) error {
	if err := s.Subscribe(topics...); err != nil {
		return err
	}
	s.following.Do(func() { close(s.followed) })
	<-s.ctx.Done()
	return nil
}

// Missed reports whether the client has lost events: Subscribe could not deliver all that followed its
// Last-Event-ID, which is too old, or of another instance. The handler should then send the present
// state, from which the next events go on.
func (s *Stream) Missed() bool { return s.missed.Load() }

// Send puts an event into the buffer of this stream. It waits for room, so that a handler that
// produces faster than its client reads slows down, until ctx or the stream ends. It returns the
// cause of that.
func (s *Stream) Send(ctx context.Context, e Event) error {
	if err := e.check(); err != nil {
		return err
	}
	m := e.encode(e.ID)
	for {
		sent, err := s.offer(m)
		if sent || err != nil {
			return err
		}
		select {
		case <-s.room:
		case <-s.ctx.Done():
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// offer puts m into the buffer if there is room.
func (s *Stream) offer(m *message) (sent bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.end != nil {
		return false, s.end.cause
	}
	if len(s.buffer) >= s.hub.cfg.Buffer {
		return false, nil
	}
	s.putLocked(m)
	if len(s.buffer) < s.hub.cfg.Buffer {
		s.signalRoom() // another Send may wait
	}
	return true, nil
}

// push puts a broadcast event into the buffer. It reports whether the stream has to go because
// there is no room. It is called under topics.mu.
func (s *Stream) push(m *message) (slow bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.end != nil {
		return false
	}
	if len(s.buffer) >= s.hub.cfg.Buffer {
		s.hub.counts.dropped.Add(1)
		if s.hub.cfg.Overflow == DropSlow {
			return true
		}
		copy(s.buffer, s.buffer[1:])
		s.buffer = s.buffer[:len(s.buffer)-1]
	}
	s.putLocked(m)
	return false
}

// resume puts into the buffer what the client has missed, however much that is: it is bounded by
// Replay. It is called under topics.mu.
func (s *Stream) resume(missed []*message, complete bool) {
	s.missed.Store(!complete)
	if len(missed) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.end != nil {
		return
	}
	s.buffer = append(s.buffer, missed...)
	s.hub.counts.replayed.Add(uint64(len(missed)))
	s.wakeLocked()
}

func (s *Stream) putLocked(m *message) {
	s.buffer = append(s.buffer, m)
	s.wakeLocked()
}

// wakeLocked starts a writer unless there is one.
//
// Owner: the stream. It ends when nothing is left to write. The goroutine of the request waits for
// the last one: see ended.
func (s *Stream) wakeLocked() {
	if !s.busy {
		s.busy = true
		go s.writer()
	}
}

// touch makes the writer send a sign of life.
func (s *Stream) touch() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.end == nil {
		s.alive = true
		s.wakeLocked()
	}
}

// finish ends the stream, unless it has ended. One that is closing politely is cut off by an ending
// that is not polite.
func (s *Stream) finish(e ending) {
	s.mu.Lock()
	first := s.end == nil
	cut := !e.polite && (first || !isClosed(s.ended))
	if first {
		s.end = &e
		if e.discard || !e.polite {
			s.hub.counts.dropped.Add(uint64(len(s.buffer)))
			clear(s.buffer)
			s.buffer = s.buffer[:0]
		}
		s.wakeLocked()
	} else if !e.polite && s.end.polite {
		harder := *s.end
		harder.polite = false
		s.end = &harder
	}
	s.mu.Unlock()
	if cut {
		s.wire.cut()
	}
	if first {
		s.hub.counts.end(e.reason)
		s.cancel(e.cause)
	}
}

// work is what the writer does next.
type work struct {
	batch []*message
	alive bool
	end   *ending
}

// next takes the next piece of work. ok is false if there is none, and the writer has to go.
func (s *Stream) next() (w work, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writing = 0
	switch {
	case s.end != nil && !s.end.polite:
		return work{end: s.end}, true
	case len(s.buffer) > 0:
		w.batch = s.buffer
		s.buffer = s.spare[:0]
		s.spare = nil
		s.signalRoom()
	case s.end != nil:
		s.told = true
		return work{end: s.end}, true
	case s.alive:
		w.alive = true
	default:
		s.busy = false
		return work{}, false
	}
	s.alive = false // whatever is written is a sign of life
	s.writing = monotime.Now()
	return w, true
}

func (s *Stream) signalRoom() {
	select {
	case s.room <- struct{}{}:
	default:
	}
}

// recycle gives the memory of a batch back.
func (s *Stream) recycle(batch []*message) {
	clear(batch)
	s.mu.Lock()
	defer s.mu.Unlock()
	if cap(batch) <= 2*s.hub.cfg.Buffer { // not that of a long replay
		s.spare = batch[:0]
	}
}

// write is the writer.
func (s *Stream) write() {
	for {
		w, ok := s.next()
		if !ok {
			return
		}
		var err error
		switch {
		case w.end != nil:
			if w.end.polite {
				s.wire.announce(w.end)
			}
			close(s.ended)
			return // busy stays: there is no writer after this one
		case w.alive:
			err = s.wire.keepAlive()
		default:
			if err = s.wire.write(w.batch); err == nil {
				s.hub.counts.sent.Add(uint64(len(w.batch)))
			}
			s.recycle(w.batch)
		}
		if err != nil {
			s.finish(endLost(err))
		}
	}
}

// errGoexit is the error of a handler that has ended its goroutine.
var errGoexit = errors.New(pkg + ": the handler called runtime.Goexit")

// handle runs the handler, on a goroutine of its own: if it hangs, the goroutine of the request can
// still return. Labels tell the goroutines of different streams apart.
func (s *Stream) handle(handler func(context.Context) error) {
	defer close(s.handled)
	pprof.SetGoroutineLabels(pprof.WithLabels(s.ctx, pprof.Labels(
		labelComponent, s.hub.state.Name(), labelStream, s.label(),
	)))
	e := endFailed(reasonFailed, errGoexit)
	defer func() { s.finish(e) }()
	var err error
	if failed := guard.Catch(func() { err = handler(s.ctx) }); failed != nil {
		e = endFailed(reasonPanic, failed)
		_ = s.hub.events.Panicked("the handler of a stream", failed)
		return
	}
	e = endDone
	if err != nil {
		e = endFailed(reasonFailed, err)
	}
}

// hasReturned reports whether the handler has.
func (s *Stream) hasReturned() bool { return isClosed(s.handled) }

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// writesTooLong reports whether a write has taken for longer than WriteTimeout.
func (s *Stream) writesTooLong() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writing != 0 && monotime.Since(s.writing) >= s.hub.cfg.WriteTimeout
}

// isTold reports whether the peer was told that it is over, as far as we can know.
func (s *Stream) isTold() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.told
}

// isOver reports whether the stream has ended, or is about to.
func (s *Stream) isOver() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end != nil
}
