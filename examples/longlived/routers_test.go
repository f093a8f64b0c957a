package main

import (
	"bufio"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/coder/websocket"
	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/labstack/echo/v4"
	echomiddleware "github.com/labstack/echo/v4/middleware"

	"github.com/poolkeeper/poolkeeper/streams"
)

// The handlers of a hub are plain http.Handlers: on these routers, with their middleware, there is
// nothing to adapt.
func TestHandlersWorkOnOtherRouters(t *testing.T) {
	for name, mount := range map[string]func(ws, sse http.Handler) http.Handler{
		"net/http": func(ws, sse http.Handler) http.Handler {
			mux := http.NewServeMux()
			mux.Handle("GET /ws", ws)
			mux.Handle("GET /sse", sse)
			return mux
		},
		"chi": func(ws, sse http.Handler) http.Handler {
			r := chi.NewRouter()
			r.Use(middleware.RequestID, middleware.Recoverer, middleware.Compress(5))
			r.Method(http.MethodGet, "/ws", ws)
			r.Method(http.MethodGet, "/sse", sse)
			return r
		},
		"echo": func(ws, sse http.Handler) http.Handler {
			e := echo.New()
			e.Use(echomiddleware.Recover(), echomiddleware.RequestID())
			e.GET("/ws", echo.WrapHandler(ws))
			e.GET("/sse", echo.WrapHandler(sse))
			return e
		},
	} {
		t.Run(name, func(t *testing.T) {
			live, err := streams.New(streams.Config{Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			if err = live.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			hello := func(ctx context.Context, s *streams.Stream) error {
				return s.Send(ctx, streams.Event{ID: "1", Data: []byte("hello")})
			}
			srv := httptest.NewServer(mount(
				live.WebSocket(func(ctx context.Context, c *streams.Conn) error { return hello(ctx, c.Stream) }), live.SSE(hello),
			))
			defer srv.Close()
			conn, _, err := websocket.Dial(t.Context(), srv.URL+"/ws", nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, text, failed := conn.Read(t.Context()); failed != nil || string(text) != "hello" {
				t.Errorf("the WebSocket got %q, %v", text, failed)
			}
			if _, _, end := conn.Read(t.Context()); websocket.CloseStatus(end) != websocket.StatusNormalClosure {
				t.Errorf("the WebSocket was closed with %v", end)
			}
			resp, err := http.Get(srv.URL + "/sse")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = resp.Body.Close() }()
			lines := bufio.NewScanner(resp.Body)
			for _, want := range []string{"retry: 3000", "", "id: 1", "data: hello", ""} {
				if !lines.Scan() || lines.Text() != want {
					t.Errorf("the SSE client got %q, want %q", lines.Text(), want)
				}
			}
			if lines.Scan() || lines.Err() != nil {
				t.Errorf("the response did not end: %q %v", lines.Text(), lines.Err())
			}
			if err := live.Stop(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}
