package streams

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/event"
	"github.com/poolkeeper/poolkeeper/internal/guard"
	"github.com/poolkeeper/poolkeeper/internal/life"
)

// Why requests are refused: the keys of StreamStats.Refused.
const (
	refusedDraining     = "draining"     // 503: the hub has not started, drains or has stopped
	refusedMax          = "max"          // 503: Max streams are open
	refusedKey          = "key"          // 429: MaxPerKey streams of this key are open
	refusedUnauthorized = "unauthorized" // Authorize returned an error
	refusedHandshake    = "handshake"    // no WebSocket request, or one from a foreign origin; an SSE request that is none
	refusedPanic        = "panic"        // 500: Authorize or Key panicked
)

//nolint:gochecknoglobals // a constant table
var refusals = [...]string{
	refusedDraining, refusedMax, refusedKey, refusedUnauthorized, refusedHandshake, refusedPanic,
}

// refusal is why a request is refused. Its text is for the client.
type refusal struct {
	reason string
	status int
	text   string
	err    error // for the log
}

// place is a place that a request has taken.
type place struct{ key string }

// admit decides whether a request may open a stream. The caller owes a release after true.
func (h *Hub) admit(w http.ResponseWriter, r *http.Request) (place, bool) {
	p, no := h.ask(r)
	if no != nil {
		h.refuse(r.Context(), w, no)
		return place{}, false
	}
	return p, true
}

func (h *Hub) ask(r *http.Request) (place, *refusal) {
	if no := h.full(); no != nil {
		return place{}, no // before any code of the service runs
	}
	var key string
	var denied error
	if failed := guard.Catch(func() {
		if h.cfg.Authorize != nil {
			denied = h.cfg.Authorize(r)
		}
		if denied == nil && h.cfg.Key != nil {
			key = h.cfg.Key(r)
		}
	}); failed != nil {
		return place{}, &refusal{refusedPanic, http.StatusInternalServerError, "internal error", h.events.Panicked("Authorize or Key", failed)}
	}
	if denied != nil {
		return place{}, &refusal{refusedUnauthorized, statusOf(denied), http.StatusText(statusOf(denied)), denied}
	}
	return h.take(key)
}

// statusOf is 401, unless the error knows better.
func statusOf(err error) int {
	if s, ok := errors.AsType[interface {
		error
		StatusCode() int
	}](err); ok && s.StatusCode() >= 400 && s.StatusCode() <= 599 {
		return s.StatusCode()
	}
	return http.StatusUnauthorized
}

// full is why no request at all is admitted now.
func (h *Hub) full() *refusal {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.fullLocked()
}

func (h *Hub) fullLocked() *refusal {
	if h.closed || h.state.At() != life.Running {
		return &refusal{refusedDraining, http.StatusServiceUnavailable, "not serving", poolkeeper.ErrDraining}
	}
	if h.taken >= h.cfg.Max {
		return &refusal{refusedMax, http.StatusServiceUnavailable, "too many streams", nil}
	}
	return nil
}

// take takes a place, if there is one.
func (h *Hub) take(key string) (place, *refusal) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if no := h.fullLocked(); no != nil {
		return place{}, no
	}
	if key != "" && h.byKey[key] >= h.cfg.MaxPerKey {
		return place{}, &refusal{refusedKey, http.StatusTooManyRequests, "too many streams of this client", nil}
	}
	if key != "" {
		h.byKey[key]++
	}
	h.taken++
	h.under.Begin()
	return place{key: key}, nil
}

// release gives a place back.
func (h *Hub) release(p place) {
	defer h.under.End()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.taken--
	if p.key == "" {
		return
	}
	if h.byKey[p.key]--; h.byKey[p.key] == 0 {
		delete(h.byKey, p.key)
	}
}

// refuse answers a request that is not admitted.
func (h *Hub) refuse(ctx context.Context, w http.ResponseWriter, no *refusal) {
	h.counts.refuse(no.reason)
	switch no.status {
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		w.Header().Set("Retry-After", strconv.Itoa(max(1, int(h.cfg.Retry.Seconds()))))
	case http.StatusUnauthorized:
		if w.Header().Get("WWW-Authenticate") == "" {
			w.Header().Set("WWW-Authenticate", "Bearer")
		}
	}
	if no.reason == refusedMax {
		h.events.Emit(event.Event{
			Kind: event.Limits, Level: slog.LevelWarn, Text: "Max streams are open; requests for more are refused",
			Attrs: []slog.Attr{slog.Int("max", h.cfg.Max)},
		})
	}
	w.Header().Set("Cache-Control", "no-store")
	http.Error(w, no.text, no.status)
	h.debug(ctx, "a request for a stream was refused", no)
}

// debug logs a refusal: it is everyday, and no event.
func (h *Hub) debug(ctx context.Context, text string, no *refusal) {
	attrs := []slog.Attr{slog.String("pool", h.state.Name()), slog.String("reason", no.reason), slog.Int("status", no.status)}
	if no.err != nil {
		attrs = append(attrs, slog.Any("error", no.err))
	}
	_ = guard.Catch(func() {
		cmp.Or(h.cfg.Logger, slog.Default()).LogAttrs(ctx, slog.LevelDebug, pkg+": "+text, attrs...)
	})
}

// refuseHandshake counts a request that the handshake has refused and answered.
func (h *Hub) refuseHandshake(ctx context.Context, err error) {
	h.counts.refuse(refusedHandshake)
	h.debug(ctx, "a handshake failed", &refusal{reason: refusedHandshake, err: fmt.Errorf("%s: %w", pkg, err)})
}
