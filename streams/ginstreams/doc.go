// Package ginstreams serves the streams of a hub on gin. It is a module of its own, so that gin
// enters only the module graphs of services that use it.
//
//	router.GET("/chat/:room", ginstreams.WebSocket(live, chat))
//	router.GET("/orders", ginstreams.SSE(live, orders))
//
//	func chat(ctx context.Context, c *streams.Conn, r ginstreams.Request) error {
//		return c.Follow("room:" + r.Param("room"))
//	}
//
// The way of a request:
//
//	gin.Context ──copy──▶ Request ─────▶ Authorize, Key: From(r)
//	 (recycled)                    └───▶ handler, which goes on for hours
//
// gin recycles a *gin.Context when its handler returns, and a stream's goroutines can outlive that.
// The handlers of this package have no parameter from which they could reach one. They get a
// [Request], a copy of what a handler needs.
//
// It refuses to pass on the context, its writer, its errors, and whether it was aborted. Middleware
// runs as always, before the stream begins and after it has ended.
package ginstreams
