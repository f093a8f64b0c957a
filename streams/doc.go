// Package streams owns the long-lived connections of a service, WebSockets and server-sent events:
// it admits them, delivers events to them without waiting for slow readers, finds dead peers, and
// tells clients to come back elsewhere at shutdown. It is a module of its own, so that
// coder/websocket enters only the module graphs of services that use it.
//
//	live, err := streams.New(streams.Config{MaxPerKey: 5, Key: userID, Authorize: checkToken})
//	mux.Handle("GET /chat", live.WebSocket(chat))        // func(context.Context, *streams.Conn) error
//	mux.Handle("GET /orders", live.SSE(orders))          // func(context.Context, *streams.Stream) error
//	reg.Add("api", lifecycle.HTTPServer(srv))
//	reg.Add("live", live, lifecycle.WithDependencies("api")) // so that it drains before the server
//	…
//	live.Broadcast("orders", streams.Event{Data: text})
//
// The way of a request, and of an event:
//
//	request ─▶ Max? ─▶ Authorize ─▶ MaxPerKey? ─▶ upgrade ─▶ handler, on a goroutine of its own
//	           503      401         429                        │ Subscribe, Send, Read
//	                                                           ▼
//	Broadcast ──▶ topic, last events ──▶ buffer of each stream ──▶ writer ──▶ client
//	                                     full: DropSlow, DropOldest    at most WriteTimeout
//
// The life of a stream:
//
//	open ──▶ the handler returns ──────────────────▶ the buffer is sent ─▶ 1000, or 1011 for an error
//	  ├────▶ Drain, its turn within DrainSpread ───▶ the buffer is sent ─▶ 1001, or an SSE event "close" with retry
//	  ├────▶ MaxAge ───────────────────────────────▶ the same
//	  ├────▶ DropSlow ─────────────────────────────▶ 1008
//	  └────▶ nothing heard for PongWait, a write longer than WriteTimeout, the time of Stop over ──▶ cut off
//
// Each stream costs two goroutines: one reads (or waits, for SSE), one runs the handler. A writer
// exists only while there is something to write.
//
// A [Client] is the other side: it keeps one stream open, of either kind, and reconnects with growing
// waits.
//
// # What it refuses to do
//
// It is no message broker: events are not acknowledged, are not stored on disk, and reach the clients
// of this instance alone. A service with several instances broadcasts on each what a shared channel
// (Redis' PUBLISH, a queue) tells it. It does not check tokens: Authorize is the service's. It does
// not replay on WebSockets, whose messages have no IDs. An SSE peer cannot answer a ping: only the
// kernel can detect that it has vanished. See [ConnContext].
package streams
