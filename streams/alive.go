package streams

import (
	"math/rand/v2"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/monotime"
)

// peer is what a wire may know of the other side.
type peer interface {
	ping()                        // sends a ping, without waiting for the pong
	heard() (monotime.Time, bool) // when the peer last sent anything; false: we do not listen at the moment
}

// watch ends a stream that is too old, and one whose peer is dead, and sends signs of life. One
// timer does all of it, and no goroutine waits. stop ends the watch.
func (s *Stream) watch() (stop func()) {
	w := &watcher{stream: s, pinged: s.since}
	w.peer, _ = s.wire.(peer)
	if age := s.hub.cfg.MaxAge; age > 0 {
		w.until = s.since.Add(age - time.Duration(rand.Float64()*ageJitter*float64(age)))
	}
	w.timer = time.AfterFunc(time.Hour, w.tick)
	w.timer.Reset(w.next(s.since)) // not before w.timer is set
	return func() { w.timer.Stop() }
}

// ageJitter is the part of MaxAge by which streams end earlier, at random: those that were opened
// together do not come back together.
const ageJitter = 0.1

type watcher struct {
	stream *Stream
	peer   peer // nil: it sends nothing
	timer  *time.Timer
	until  monotime.Time // when the stream is too old; 0: never
	pinged monotime.Time // used by one tick at a time
}

// next is how long until something is due.
func (w *watcher) next(now monotime.Time) time.Duration {
	cfg := &w.stream.hub.cfg
	due := w.pinged.Add(cfg.Ping)
	if w.until > 0 {
		due = min(due, w.until)
	}
	if w.peer != nil {
		if heard, listening := w.peer.heard(); listening {
			due = min(due, heard.Add(cfg.PongWait))
		}
	}
	return max(due.Sub(now), time.Millisecond)
}

// tick does what is due, and arms the timer again. It does not block.
func (w *watcher) tick() {
	s, cfg, now := w.stream, &w.stream.hub.cfg, monotime.Now()
	if s.isOver() {
		return
	}
	if w.until > 0 && now >= w.until {
		s.finish(endAged(cfg.Retry))
		return
	}
	if w.peer != nil {
		if heard, listening := w.peer.heard(); listening && now.Sub(heard) >= cfg.PongWait {
			s.finish(endDead)
			return
		}
	}
	if now.Sub(w.pinged) >= cfg.Ping {
		w.pinged = now
		if w.peer != nil {
			w.peer.ping()
		} else {
			s.touch()
		}
	}
	w.timer.Reset(w.next(now))
}
