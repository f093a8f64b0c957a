package streams

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/event"
	"github.com/poolkeeper/poolkeeper/internal/socket"
)

// SSE returns a handler of requests for server-sent events. For each it calls feed, on a goroutine of
// its own. When feed returns, what is in the buffer is sent and the response ends. If it panics, that
// ends its response alone. Its context ends with the response, and while the hub drains: the cause
// says why. A feed that only passes on topics returns [Stream.Follow].
//
// A request that a browser sends for a page of another origin gets 403, before Authorize is called:
// see Config.Accept. A response begins with retry (Config.Retry). Its headers keep proxies from
// buffering, caching and compressing it. It has no write time-out but WriteTimeout for each write,
// and no read time-out, whatever the http.Server says. The handler works with every router whose
// ResponseWriter can flush and set deadlines, or has Unwrap: net/http, chi, gin, echo.
func (h *Hub) SSE(feed func(context.Context, *Stream) error) http.Handler {
	site := callSite()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodPost {
			w.Header().Set("Allow", "GET, POST")
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
			h.refuseHandshake(r.Context(), fmt.Errorf("method %s", r.Method))
			return
		}
		if err := h.foreign(r); err != nil {
			http.Error(w, "forbidden", http.StatusForbidden)
			h.refuseHandshake(r.Context(), err)
			return
		}
		p, ok := h.admit(w, r)
		if !ok {
			return
		}
		defer h.release(p)
		s := h.newStream(kindSSE, r, p, site)
		s.lastID = r.Header.Get("Last-Event-ID")
		// The peer has to acknowledge the comment of each Ping, so PongWait detects that it vanished.
		socket.LimitUnacknowledged(socket.Of(r.Context()), h.cfg.PongWait-h.cfg.Ping)
		wire := &sseWire{w: w, rc: http.NewResponseController(w), timeout: h.cfg.WriteTimeout}
		s.wire = wire
		if err := wire.begin(r, h.cfg.Retry); err != nil {
			h.refuseHandshake(r.Context(), err)
			h.events.Emit(event.Event{
				Kind: event.Misuse, Level: slog.LevelError, Err: err,
				Text: "an SSE response cannot begin: its ResponseWriter must be able to flush and to set deadlines, or have Unwrap",
			})
			return
		}
		defer wire.retire()
		h.run(s, func(ctx context.Context) error { return feed(ctx, s) }, nil)
	})
}

// ConnContext lets the hub detect within PongWait that an SSE peer has vanished.
//
//	srv := &http.Server{Handler: mux, ConnContext: streams.ConnContext}
//
// It gives the hub the connection of each request. A server of lifecycle.HTTPServer does not need it.
// The hub makes the kernel close a connection whose peer acknowledges nothing for PongWait - Ping, not
// even the comment of each Ping (TCP_USER_TIMEOUT). A peer that reads nothing for that long is closed
// too, unless WriteTimeout or a full buffer ends its stream before. This works on Linux. On other systems, and without
// ConnContext, the kernel decides when it gives up: Linux does after some 15 minutes.
func ConnContext(ctx context.Context, c net.Conn) context.Context { return socket.WithConn(ctx, c) }

// sseWire is the response to a request for server-sent events.
type sseWire struct {
	w       http.ResponseWriter
	rc      *http.ResponseController
	timeout time.Duration

	mu    sync.Mutex // guards the following, and the write deadline
	isCut bool
}

// begin sends the header. If it fails, the request was answered otherwise.
func (w *sseWire) begin(r *http.Request, retry time.Duration) error {
	if err := w.setDeadline(); err != nil {
		http.Error(w.w, "internal error", http.StatusInternalServerError)
		return err
	}
	_ = w.rc.SetReadDeadline(time.Time{}) // the server's would end the request's context
	h := w.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-cache, no-transform")
	h.Set("X-Accel-Buffering", "no")
	if r.ProtoMajor == 1 {
		// A client that comes back is to open a connection: behind a load balancer it reaches
		// another instance, and our write deadline does not meet its next request.
		h.Set("Connection", "close")
	}
	w.w.WriteHeader(http.StatusOK)
	if _, err := w.w.Write(appendRetry(nil, retry)); err != nil {
		return err
	}
	return w.rc.Flush()
}

func appendRetry(buf []byte, retry time.Duration) []byte {
	buf = append(buf, "retry: "...)
	return append(strconv.AppendInt(buf, retry.Milliseconds(), 10), '\n', '\n')
}

// setDeadline bounds the next write, unless the connection was cut off.
func (w *sseWire) setDeadline() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.isCut {
		return net.ErrClosed
	}
	return w.rc.SetWriteDeadline(time.Now().Add(w.timeout))
}

func (w *sseWire) write(batch []*message) error {
	if err := w.setDeadline(); err != nil {
		return err
	}
	for _, m := range batch {
		if _, err := w.w.Write(m.sse); err != nil {
			return err
		}
	}
	return w.rc.Flush()
}

func (w *sseWire) keepAlive() error {
	if err := w.setDeadline(); err != nil {
		return err
	}
	if _, err := w.w.Write([]byte(":\n\n")); err != nil {
		return err
	}
	return w.rc.Flush()
}

// announce tells the client when to come back, in an event that a page can listen for.
func (w *sseWire) announce(e *ending) {
	if e.retry <= 0 || w.setDeadline() != nil {
		return
	}
	buf := strconv.AppendInt([]byte("event: close\nretry: "), e.retry.Milliseconds(), 10)
	buf = append(append(append(buf, "\ndata: "...), e.text...), "\n\n"...)
	if _, err := w.w.Write(buf); err == nil {
		_ = w.rc.Flush()
	}
}

// cut makes a write under way fail. The connection is closed by the server, when the request's
// goroutine has returned.
func (w *sseWire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.isCut {
		return
	}
	w.isCut = true
	_ = w.rc.SetWriteDeadline(time.Unix(1, 0)) //nolint:forbidigo // a moment in the past, not a decision
}

// retire forgets the response: the server, or gin, uses it for another request.
func (w *sseWire) retire() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.isCut = true
}
