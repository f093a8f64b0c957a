package ginstreams

import (
	"context"
	"maps"
	"net/http"
	"slices"

	"github.com/gin-gonic/gin"

	"github.com/poolkeeper/poolkeeper/streams"
)

// Request is what a stream's handler may know of the gin.Context that it began with. It is a copy:
// it stays valid for as long as the stream lasts, and is safe for concurrent use. Values that
// middleware has set are not copied deeply: a pointer still points to the same object.
type Request struct {
	// FullPath is the route, such as "/chat/:room".
	FullPath string
	// ClientIP is the client's address, as gin's trusted proxies say it.
	ClientIP string

	params gin.Params
	keys   map[any]any
}

// Param returns a parameter of the path, or "".
func (r Request) Param(name string) string { return r.params.ByName(name) }

// Value returns the value that middleware has set under a key with gin.Context.Set, or nil.
func (r Request) Value(key any) any { return r.keys[key] }

// requestKey is the key under which requests carry their Request.
type requestKey struct{}

// From returns the Request of an http.Request that came through this package, for the Authorize and
// Key of a streams.Config. ok is false if it did not.
func From(r *http.Request) (req Request, ok bool) {
	req, ok = r.Context().Value(requestKey{}).(Request)
	return req, ok
}

// WebSocket is streams.Hub.WebSocket for gin.
func WebSocket(h *streams.Hub, serve func(context.Context, *streams.Conn, Request) error) gin.HandlerFunc {
	return handler(h.WebSocket(func(ctx context.Context, c *streams.Conn) error {
		req, _ := From(c.Request())
		return serve(ctx, c, req)
	}))
}

// SSE is streams.Hub.SSE for gin.
func SSE(h *streams.Hub, feed func(context.Context, *streams.Stream, Request) error) gin.HandlerFunc {
	return handler(h.SSE(func(ctx context.Context, s *streams.Stream) error {
		req, _ := From(s.Request())
		return feed(ctx, s, req)
	}))
}

func handler(h http.Handler) gin.HandlerFunc {
	return func(c *gin.Context) {
		req := Request{FullPath: c.FullPath(), ClientIP: c.ClientIP(), params: slices.Clone(c.Params), keys: maps.Clone(c.Keys)}
		h.ServeHTTP(c.Writer, c.Request.WithContext(context.WithValue(c.Request.Context(), requestKey{}, req)))
	}
}
