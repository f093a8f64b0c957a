package streams

import (
	"runtime"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/stacks"
)

// Kinds of streams, in Holders.
const (
	kindWebSocket = "websocket"
	kindSSE       = "sse"
)

// counts are the counters of a hub.
type counts struct {
	opened, sent, dropped, replayed atomic.Uint64

	ended   [len(reasons)]atomic.Uint64
	refused [len(refusals)]atomic.Uint64
}

func (c *counts) end(reason string)    { c.ended[slices.Index(reasons[:], reason)].Add(1) }
func (c *counts) refuse(reason string) { c.refused[slices.Index(refusals[:], reason)].Add(1) }

// Stats returns one moment of the hub as of a server: streams are its requests. It does not block.
// Refused counts requests refused because the hub did not serve; StreamStats has all reasons.
func (h *Hub) Stats() poolkeeper.ServerStats {
	s := h.StreamStats()
	return poolkeeper.ServerStats{
		InFlight: s.WebSocket + s.SSE, Streams: s.WebSocket + s.SSE, Connections: s.WebSocket + s.SSE, Hijacked: s.WebSocket,
		Requests: s.Opened, Refused: s.Refused[refusedDraining],
	}
}

// StreamStats returns one moment of the hub. It looks at every stream and topic.
func (h *Hub) StreamStats() poolkeeper.StreamStats {
	out := poolkeeper.StreamStats{
		Topics: h.topics.subscribers(),
		Opened: h.counts.opened.Load(), Sent: h.counts.sent.Load(),
		Dropped: h.counts.dropped.Load(), Replayed: h.counts.replayed.Load(),
		Ended: map[string]uint64{}, Refused: map[string]uint64{},
	}
	for i, reason := range reasons {
		out.Ended[reason] = h.counts.ended[i].Load()
	}
	for i, reason := range refusals {
		out.Refused[reason] = h.counts.refused[i].Load()
	}
	for _, s := range h.all() {
		if s.kind == kindWebSocket {
			out.WebSocket++
		} else {
			out.SSE++
		}
		out.Buffered += s.buffered()
	}
	return out
}

func (s *Stream) buffered() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.buffer)
}

// Holders returns the open streams, the oldest first. Their Stack is the place where the handler was
// registered with WebSocket or SSE. Where a handler hangs at shutdown is in the error of Stop.
func (h *Hub) Holders() []poolkeeper.Holder {
	open := h.oldestFirst()
	out := make([]poolkeeper.Holder, len(open))
	for i, s := range open {
		out[i] = poolkeeper.Holder{Kind: s.kind, Since: s.since.Wall(), Stack: s.site}
	}
	return out
}

// callSite is where the service calls this package.
func callSite() string {
	var pcs [16]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	for {
		f, more := frames.Next()
		if f.Function != "" && !strings.HasPrefix(f.Function, ownFrames) && !strings.HasPrefix(f.Function, ginFrames) {
			return stacks.Frame{Function: f.Function, File: f.File, Line: f.Line}.String()
		}
		if !more {
			return ""
		}
	}
}
