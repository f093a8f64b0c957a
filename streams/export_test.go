package streams

import (
	"io"
	"net/http"
	"strings"
	"time"
)

// ReadEvents reads an event stream whose client has last seen an ID.
func ReadEvents(r io.Reader, limit int, id string, alive func(), retry func(time.Duration), event func(Event) error, seen func(string)) error {
	return readEvents(r, limit, id, eventSink{alive: alive, retry: retry, event: event, seen: seen})
}

// SSEForm is an event on an SSE stream.
func (e *Event) SSEForm() string { return string(e.encode(e.ID).sse) }

// Foreign is why a hub refuses a request of another origin, or nil.
func Foreign(cfg Config, r *http.Request) error { return (&Hub{cfg: cfg}).foreign(r) }

// Wait is Backoff.wait with the defaults filled in.
func (b Backoff) Wait(failures int, asked time.Duration, draw float64) time.Duration {
	return b.withDefaults().wait(failures, asked, draw)
}

// Member is a stream without a connection: what is written goes to a function.
type Member struct {
	*Stream

	place place
}

// Join opens a stream without a connection, and without a handler. write gets the data of each batch
// of events, one at a time. It may block, and an error ends the stream.
func (h *Hub) Join(lastID string, write func(batch []string) error) (*Member, bool) {
	p, no := h.take("")
	if no != nil {
		return nil, false
	}
	r, err := http.NewRequest(http.MethodGet, "/", strings.NewReader(""))
	if err != nil {
		return nil, false
	}
	s := h.newStream(kindSSE, r, p, "")
	s.lastID = lastID
	s.wire = funcWire(write)
	close(s.handled)
	h.enter(s)
	return &Member{s, p}, true
}

// Over reports whether the stream has ended.
func (m *Member) Over() bool { return m.isOver() }

// Leave ends the stream and takes it out of the hub.
func (m *Member) Leave() {
	m.finish(endDone)
	<-m.ended
	m.hub.leave(m.Stream)
	m.hub.release(m.place)
}

// funcWire passes on what is written.
type funcWire func(batch []string) error

func (w funcWire) write(batch []*message) error {
	texts := make([]string, len(batch))
	for i, m := range batch {
		texts[i] = string(m.data)
	}
	return w(texts)
}
func (w funcWire) keepAlive() error { return nil }
func (w funcWire) announce(*ending) {}
func (w funcWire) cut()             {}

// JoinSilently is Join with a connection that does nothing at all.
func (h *Hub) JoinSilently(wrote func()) *Member {
	m, _ := h.Join("", nil)
	m.wire = nullWire(wrote)
	return m
}

type nullWire func()

func (w nullWire) write(batch []*message) error {
	for range batch {
		w()
	}
	return nil
}
func (w nullWire) keepAlive() error { return nil }
func (w nullWire) announce(*ending) {}
func (w nullWire) cut()             {}
