package lifecycle

import (
	"context"
	"net/http"
)

// serverKey is the key under which requests carry their Server.
type serverKey struct{}

// Stream marks a handler whose requests go on until they are ended. Examples are server-sent
// events, WebSockets and long polls. When the [Server] begins to drain, the contexts of its
// requests end with ErrDraining as their cause, and new ones are refused with 503, while ordinary
// requests run on to their end. The handler has to watch the request's context. Under any other
// server it changes nothing.
func Stream(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, ok := r.Context().Value(serverKey{}).(*Server)
		if !ok {
			h.ServeHTTP(w, r)
			return
		}
		if s.draining.Err() != nil {
			s.refuse(w)
			return
		}
		s.state.streams.Add(1)
		defer s.state.streams.Add(-1)
		ctx, cancel := context.WithCancelCause(r.Context())
		defer cancel(nil)
		//nolint:contextcheck // draining is another context on purpose: the server's, not the request's
		defer context.AfterFunc(s.draining, func() { cancel(errStreamDrained) })()
		h.ServeHTTP(w, r.WithContext(ctx))
	})
}
