package streams

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/event"
	"github.com/poolkeeper/poolkeeper/internal/inflight"
	"github.com/poolkeeper/poolkeeper/internal/life"
	"github.com/poolkeeper/poolkeeper/internal/monotime"
)

// Hub owns the long-lived connections of a service: it admits them, delivers events to them, finds
// those whose peers are gone, and closes them at shutdown. It is a component of a lifecycle
// registry. All methods are safe for concurrent use.
type Hub struct {
	cfg    Config
	state  *life.State
	events *event.Log
	topics *topics
	counts counts
	under  inflight.Group // requests under way, and what they have started
	// abandoned is closed when a shutdown waits for handlers no more.
	abandoned chan struct{}
	abandon   sync.Once
	last      atomic.Uint64 // number of the last stream

	mu     sync.Mutex // guards the following
	open   map[*Stream]struct{}
	taken  int            // places of Max
	byKey  map[string]int // places of MaxPerKey
	closed bool           // no stream is admitted any more
}

// New returns a hub. It fails if the configuration has faults, all of which the error names. It
// starts nothing: requests are refused until Start.
func New(cfg Config) (*Hub, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	h := &Hub{
		cfg: cfg, state: life.NewState(pkg, cfg.Name), topics: newTopics(&cfg), abandoned: make(chan struct{}),
		open: map[*Stream]struct{}{}, byKey: map[string]int{},
	}
	h.events = newLog(h.state.Name, cfg.Logger)
	return h, nil
}

// newLog returns the event log of a hub or a client. A nil logger is slog.Default() as of each line.
func newLog(name func() string, logger *slog.Logger) *event.Log {
	return event.NewLog(pkg, name, func() *slog.Logger { return cmp.Or(logger, slog.Default()) }, func(err error) (cause, advice string) {
		f := health.Classify(err)
		return string(f.Kind), f.Advice
	})
}

// SetName gives the hub its name in logs, errors and metrics. The Registry calls it. An empty name
// changes nothing.
func (h *Hub) SetName(name string) { h.state.SetName(name) }

// Subscribe calls fn for every event of the hub from now on, until cancel is called: a handler
// panicked, Max was reached, or a client was dropped because it reads too slowly. fn may be called
// concurrently, and must not block. A panic in it is logged.
func (h *Hub) Subscribe(fn func(poolkeeper.Event)) (cancel func()) { return h.events.Subscribe(fn) }

// newStream makes the stream of a request that was admitted.
func (h *Hub) newStream(kind string, r *http.Request, p place, site string) *Stream {
	s := &Stream{
		hub: h, kind: kind, request: r, key: p.key, site: site, since: monotime.Now(), number: h.last.Add(1),
		room: make(chan struct{}, 1), ended: make(chan struct{}), handled: make(chan struct{}),
		followed: make(chan struct{}), abandoned: h.abandoned,
	}
	s.ctx, s.cancel = context.WithCancelCause(context.WithoutCancel(r.Context()))
	s.writer = s.write
	return s
}

func (s *Stream) label() string { return strconv.FormatUint(s.number, 10) }

// run runs a stream to its end, on the goroutine of its request. read reads what the peer sends; it
// returns when the connection ends, and may be nil.
func (h *Hub) run(s *Stream, handler func(context.Context) error, read func()) {
	if !h.enter(s) {
		s.finish(endDrained(h.cfg.Retry)) // the hub began to drain during the upgrade
	}
	defer h.leave(s)
	peer := s.request.Context()
	defer context.AfterFunc(peer, func() {
		if errors.Is(context.Cause(peer), poolkeeper.ErrDraining) { // of lifecycle.Stream
			s.finish(endDrained(h.cfg.Retry))
			return
		}
		if s.writesTooLong() { // the server has noticed first, and ended the request
			s.finish(endLost(os.ErrDeadlineExceeded))
			return
		}
		s.finish(endLost(context.Cause(peer)))
	})()
	stop := s.watch()
	defer stop()
	// Owner: the stream, which ends its context. This request waits for it, unless the hub is
	// stopped and gives it up.
	go s.handle(handler)
	if read != nil {
		read()
	}
	<-s.ended
	select {
	case <-s.handled:
	case <-s.abandoned:
	}
}

// enter adds a stream to those that are open. It reports whether it may stay.
func (h *Hub) enter(s *Stream) bool {
	h.counts.opened.Add(1)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open[s] = struct{}{}
	return !h.closed
}

func (h *Hub) leave(s *Stream) {
	h.topics.unsubscribe(s, nil, true)
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.open, s)
}

// all returns the streams that are open.
func (h *Hub) all() []*Stream {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Collect(maps.Keys(h.open))
}

// oldestFirst returns the streams that are open, in the order in which they were opened.
func (h *Hub) oldestFirst() []*Stream {
	open := h.all()
	slices.SortFunc(open, func(a, b *Stream) int { return cmp.Compare(a.number, b.number) })
	return open
}
