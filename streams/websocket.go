package streams

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/poolkeeper/poolkeeper/internal/monotime"
)

// Conn is a WebSocket that a handler serves. All methods are safe for concurrent use.
type Conn struct {
	*Stream

	in  chan inbound
	err atomic.Pointer[error] // why nothing can be read any more
	ws  *wsWire
}

// inbound is a message from the peer.
type inbound struct {
	kind websocket.MessageType
	data []byte
}

// WebSocket returns a handler of requests that become WebSockets. For each it calls serve, on a
// goroutine of its own. When serve returns nil the connection is closed with 1000; when it returns
// an error with 1011, or as a websocket.CloseError says. If it panics, that ends its connection
// alone. Its context ends with the connection, and while the hub drains: the cause says why.
//
// The handler works on HTTP/1.1 with every router whose ResponseWriter can be hijacked: net/http,
// chi, gin, echo.
func (h *Hub) WebSocket(serve func(context.Context, *Conn) error) http.Handler {
	site := callSite()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, ok := h.admit(w, r)
		if !ok {
			return
		}
		defer h.release(p)
		s := h.newStream(kindWebSocket, r, p, site)
		conn := &Conn{Stream: s, in: make(chan inbound), ws: &wsWire{stream: s}}
		s.wire = conn.ws
		if err := conn.ws.accept(w, r); err != nil {
			h.refuseHandshake(r.Context(), err)
			return
		}
		defer func() { _ = conn.ws.conn.CloseNow() }()
		h.run(s, func(ctx context.Context) error { return serve(ctx, conn) }, conn.readAll)
	})
}

// Read returns the next message. It blocks until there is one, or ctx or the connection ends. If
// the peer has closed the connection, websocket.CloseStatus of the error says how. A message that
// arrives after ctx has ended is for the next Read.
//
// While a message waits to be read, nothing else is read from the peer, and it is not taken for
// dead: a handler that is slower than its peer slows it down.
func (c *Conn) Read(ctx context.Context) (websocket.MessageType, []byte, error) {
	select {
	case m := <-c.in:
		return m.kind, m.data, nil
	case <-c.ctx.Done():
		if err := c.err.Load(); err != nil {
			return 0, nil, *err
		}
		return 0, nil, context.Cause(c.ctx)
	case <-ctx.Done():
		return 0, nil, context.Cause(ctx)
	}
}

// Write writes a message at once, not through the buffer: for messages that are not text, and for
// handlers that have to know that it was written. It blocks for at most Config.WriteTimeout. An
// error means that the connection is lost.
func (c *Conn) Write(kind websocket.MessageType, data []byte) error {
	if err := c.ws.writeOne(kind, data); err != nil {
		c.finish(endLost(err))
		return err
	}
	return nil
}

// Subprotocol returns the subprotocol that was negotiated, or "".
func (c *Conn) Subprotocol() string { return c.ws.conn.Subprotocol() }

// readAll reads what the peer sends, and passes it to Read. It also makes pings, pongs and the close
// handshake work.
func (c *Conn) readAll() {
	for {
		kind, data, err := c.ws.conn.Read(c.ws.ctx)
		if err != nil {
			c.err.Store(&err)
			c.finish(endLost(err))
			return
		}
		c.ws.noteHeard()
		c.ws.holding.Store(true)
		select {
		case c.in <- inbound{kind, data}:
		case <-c.followed: // messages are of no interest
		case <-c.ctx.Done(): // nor any more; go on until the peer has answered the close message
		}
		c.ws.noteHeard()
		c.ws.holding.Store(false)
	}
}

// wsWire is a WebSocket.
type wsWire struct {
	stream  *Stream
	conn    *websocket.Conn
	net     net.Conn        // below conn
	ctx     context.Context //nolint:containedctx // never ends: a context that ends closes the connection without a close message
	last    atomic.Int64    // a monotime.Time: when the peer last sent anything
	holding atomic.Bool     // a message waits to be read, and no pong can be seen
}

func (w *wsWire) accept(rw http.ResponseWriter, r *http.Request) error {
	cfg := &w.stream.hub.cfg
	w.ctx = context.WithoutCancel(r.Context())
	w.noteHeard()
	opts := cfg.Accept
	opts.OnPingReceived = func(ctx context.Context, payload []byte) bool {
		w.noteHeard()
		return cfg.Accept.OnPingReceived == nil || cfg.Accept.OnPingReceived(ctx, payload)
	}
	opts.OnPongReceived = func(ctx context.Context, payload []byte) {
		w.noteHeard()
		if cfg.Accept.OnPongReceived != nil {
			cfg.Accept.OnPongReceived(ctx, payload)
		}
	}
	up := &upgrade{ResponseWriter: rw}
	conn, err := websocket.Accept(up, r, &opts)
	if err != nil {
		return err
	}
	conn.SetReadLimit(int64(cfg.ReadLimit))
	w.conn, w.net = conn, up.conn
	return nil
}

func (w *wsWire) noteHeard() { w.last.Store(int64(monotime.Now())) }

func (w *wsWire) heard() (monotime.Time, bool) {
	return monotime.Time(w.last.Load()), !w.holding.Load()
}

func (w *wsWire) write(batch []*message) error {
	for _, m := range batch {
		if err := w.writeOne(websocket.MessageText, m.data); err != nil {
			return err
		}
	}
	return nil
}

func (w *wsWire) writeOne(kind websocket.MessageType, data []byte) error {
	if err := w.setDeadline(); err != nil {
		return err
	}
	return w.conn.Write(w.ctx, kind, data)
}

func (w *wsWire) setDeadline() error {
	return w.net.SetWriteDeadline(time.Now().Add(w.stream.hub.cfg.WriteTimeout))
}

// keepAlive is not used: a ping is the sign of life.
func (w *wsWire) keepAlive() error { return nil }

// ping sends a ping. Its pong is seen by the callback; waiting for it is all that the library
// offers.
//
// Owner: the hub, whose shutdown waits for the goroutine. It ends with the pong, the connection, or
// after PongWait.
func (w *wsWire) ping() {
	w.stream.hub.under.Go(func() {
		ctx, cancel := context.WithTimeout(w.ctx, w.stream.hub.cfg.PongWait)
		defer cancel()
		_ = w.conn.Ping(ctx) // what has come of it is seen by what is heard
	})
}

// announce runs the close handshake with the code of e. The library bounds it to some seconds.
func (w *wsWire) announce(e *ending) {
	if w.setDeadline() == nil {
		_ = w.conn.Close(e.code, e.text)
	}
	w.cut() // what readAll waits for
}

func (w *wsWire) cut() { _ = w.net.Close() }

// upgrade keeps the connection that is taken over from the HTTP server. The library does not tell
// it.
type upgrade struct {
	http.ResponseWriter

	conn net.Conn
}

// Hijack takes the connection over.
func (u *upgrade) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(u.ResponseWriter).Hijack()
	u.conn = conn
	return conn, rw, err
}

// WriteHeaderNow makes gin write the header before the connection is taken over.
func (u *upgrade) WriteHeaderNow() {
	if w, ok := u.ResponseWriter.(interface{ WriteHeaderNow() }); ok {
		w.WriteHeaderNow()
	}
}
