package streams

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/life"
	"github.com/poolkeeper/poolkeeper/internal/monotime"
	"github.com/poolkeeper/poolkeeper/internal/plural"
	"github.com/poolkeeper/poolkeeper/internal/retry"
	"github.com/poolkeeper/poolkeeper/internal/stacks"
)

// cutGrace is how long handlers have to return after their connections were cut off.
const cutGrace = 100 * time.Millisecond

// Start admits requests from now on. It does not block. A hub cannot be started twice, nor after
// Stop.
func (h *Hub) Start(ctx context.Context) error {
	return h.state.Start(ctx, func(context.Context) error { return nil }, func() {})
}

// Drain refuses new streams with 503 and closes the open ones, the oldest first, evenly over
// Config.DrainSpread or half of the time that ctx has left. When a stream's turn comes, its peer
// gets what is in the buffer and then the close code 1001, or an SSE client a last event of type
// "close" that says when to reconnect. The context of its handler ends, with a cause that matches
// poolkeeper.ErrDraining. Drain waits until all handlers have returned and all connections are
// closed. Its error says how many are left when ctx ends.
//
// The HTTP server must not drain before the hub, because it waits for the requests that are the
// streams. In a Registry, let the hub depend on the server.
func (h *Hub) Drain(ctx context.Context) error {
	h.refuseAll(life.Draining)
	h.closeInTurn(ctx)
	if err := h.under.Wait(ctx); err != nil {
		return fmt.Errorf("%s: drain %q: %s still open: %w", pkg, h.state.Name(), plural.Of(len(h.all()), "stream"), err)
	}
	return nil
}

// Stop drains the hub, unless Drain has done so. At the end of ctx it cuts off the streams that
// are left, and returns a *poolkeeper.HeldError that counts them and names the handlers that have
// not returned, with the place where they hang. The first call stops the hub, and others wait for
// it. All return the same error, or their own context's. It may be called without Start.
func (h *Hub) Stop(ctx context.Context) error { return h.state.Stop(ctx, h.shut) }

// Abort cuts off all streams at once. A Stop under way then ends too. It returns the
// *poolkeeper.HeldError of what was cut off, or nil. It may be called at any time, more than once,
// and without Start.
func (h *Hub) Abort() error { return h.state.Abort(h.shut) }

func (h *Hub) shut(ctx context.Context, _ <-chan struct{}) error {
	h.refuseAll(life.Draining)
	if ctx.Err() == nil { // else there is no time for it
		h.closeInTurn(ctx)
	}
	ended := h.under.Wait(ctx)
	h.refuseAll(life.Stopping)
	h.topics.close()
	if ended == nil {
		return nil
	}
	return h.cutAll(ended)
}

// refuseAll admits no stream any more.
func (h *Hub) refuseAll(at life.Phase) {
	h.state.Enter(at)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
}

// closeInTurn closes the streams that are open, one after the other. When ctx ends it closes the rest
// at once.
func (h *Hub) closeInTurn(ctx context.Context) {
	open := slices.DeleteFunc(h.oldestFirst(), (*Stream).isOver)
	window := h.window(ctx)
	began := monotime.Now()
	for i, s := range open {
		if wait := part(window, i, len(open)) - monotime.Since(began); wait > 0 {
			retry.Sleep(ctx, wait)
		}
		// What the window is too short for, SSE clients are told to wait.
		s.finish(endDrained(h.cfg.Retry + part(h.cfg.DrainSpread-window, i, len(open))))
	}
}

// part is the share of d before stream i of n.
func part(d time.Duration, i, n int) time.Duration {
	return time.Duration(float64(d) * float64(i) / float64(n))
}

// window is the time over which streams are closed: DrainSpread, or half of what ctx has left.
func (h *Hub) window(ctx context.Context) time.Duration {
	window := h.cfg.DrainSpread
	if deadline, ok := ctx.Deadline(); ok {
		window = min(window, time.Until(deadline)/2)
	}
	if ctx.Err() != nil {
		window = 0
	}
	return max(window, 0)
}

// cutAll cuts off what is left, and names it. ended is why it was not waited for any longer.
func (h *Hub) cutAll(ended error) error {
	held := &poolkeeper.HeldError{Pool: h.state.Name(), Time: time.Now(), Err: ended}
	open := h.oldestFirst()
	sites := h.sites(open)
	for _, s := range open {
		if returned := s.hasReturned(); !returned || !s.isTold() {
			held.Cut++
			if !returned {
				held.Holders = append(held.Holders, poolkeeper.Holder{Kind: s.kind, Since: s.since.Wall(), Stack: sites[s.label()]})
			}
		}
		s.finish(endCut)
	}
	//nolint:forbidigo // the caller's context has ended; this is the time after it
	grace, cancel := context.WithTimeout(context.Background(), cutGrace)
	defer cancel()
	if h.under.Wait(grace) != nil {
		h.abandon.Do(func() { close(h.abandoned) })                       // handlers that ignore their contexts
		last, done := context.WithTimeout(context.Background(), cutGrace) //nolint:forbidigo // as above
		defer done()
		_ = h.under.Wait(last)
	}
	if held.Cut == 0 {
		return nil
	}
	return held
}

// The keys of the pprof labels on handlers. The first is that of lifecycle.
const (
	labelComponent = "poolkeeper.component"
	labelStream    = "poolkeeper.stream"
)

// sites returns where the handlers of streams are, by label. Of handlers that have returned it knows
// nothing.
func (h *Hub) sites(open []*Stream) map[string]string {
	if !slices.ContainsFunc(open, func(s *Stream) bool { return !s.hasReturned() }) {
		return nil
	}
	name := h.state.Name()
	out := map[string]string{}
	for _, g := range stacks.Profile() {
		if g.Labels[labelComponent] != name || g.Labels[labelStream] == "" {
			continue
		}
		if frames, ours := handlerFrames(g.Frames); ours {
			out[g.Labels[labelStream]] = stacks.Print(frames)
		}
	}
	return out
}

// handlerFrames returns the frames of a handler, from the innermost outside of the standard library
// and of this package. ours is false if this is not the goroutine that we have started.
func handlerFrames(frames []stacks.Frame) (handler []stacks.Frame, ours bool) {
	end := slices.IndexFunc(frames, func(f stacks.Frame) bool {
		return strings.HasPrefix(f.Function, "github.com/poolkeeper/poolkeeper/internal/guard.") || f.Function == ownFrames+"(*Stream).handle"
	})
	if end < 0 {
		return nil, false
	}
	frames = frames[:end]
	begin := slices.IndexFunc(frames, func(f stacks.Frame) bool { return !isInner(f.Function) })
	return frames[max(begin, 0):], true
}

const ownFrames = "github.com/poolkeeper/poolkeeper/streams."

// isInner reports whether a function belongs to the standard library, to this module or to the
// WebSocket library: it is not where a handler hangs, but what it hangs in.
func isInner(function string) bool {
	return strings.HasPrefix(function, ownFrames) || strings.HasPrefix(function, ginFrames) ||
		strings.HasPrefix(function, "github.com/coder/websocket.") || isStandard(function)
}

const ginFrames = "github.com/poolkeeper/poolkeeper/streams/ginstreams."

// waiting are packages of the standard library in which a goroutine that hangs usually is.
//
//nolint:gochecknoglobals // a constant table
var waiting = []string{
	"runtime", "sync", "time", "os", "io", "net", "bufio", "context", "syscall", "reflect", "internal", "crypto", "database",
}

func isStandard(function string) bool {
	first := function
	if end := strings.IndexAny(function, "./"); end >= 0 {
		first = function[:end]
	}
	return slices.Contains(waiting, first)
}
