package streams_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/test/pooltest"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/streams"
)

// refused opens a stream and returns the answer that refuses it.
func refused(t *testing.T, url string, header ...string) *http.Response {
	t.Helper()
	s := open(t, http.DefaultClient, url, header...)
	body, err := io.ReadAll(s.Body)
	if err != nil {
		t.Fatal(err)
	}
	if s.StatusCode < 400 {
		t.Errorf("not refused: %s", s.Status)
	}
	s.Status += " " + string(body)
	return s.Response
}

func TestOneMoreStreamOfAKeyIsRefusedWith429(t *testing.T) {
	h := started(t, streams.Config{MaxPerKey: 5, Key: func(r *http.Request) string { return r.Header.Get("User") }})
	mux := http.NewServeMux()
	mux.Handle("/ws", h.WebSocket(followWS("t")))
	mux.Handle("/sse", h.SSE(follow("t")))
	url := serve(t, mux)
	ann := &websocket.DialOptions{HTTPHeader: http.Header{"User": {"ann"}}}
	var last *websocket.Conn
	for range 3 {
		last = dial(t, url+"/ws", ann)
	}
	for range 2 {
		open(t, http.DefaultClient, url+"/sse", "User", "ann")
	}
	_, resp, err := websocket.Dial(t.Context(), url+"/ws", ann)
	if err == nil || resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") != "3" {
		t.Errorf("the sixth WebSocket: %v %v", resp, err)
	}
	if resp := refused(t, url+"/sse", "User", "ann"); resp.StatusCode != http.StatusTooManyRequests {
		t.Errorf("the sixth SSE stream: %s", resp.Status)
	}
	open(t, http.DefaultClient, url+"/sse", "User", "bob")
	open(t, http.DefaultClient, url+"/sse") // without a key there is no limit
	if err := last.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Error(err)
	}
	testkit.Eventually(t, "the place is free again", func() bool {
		conn, _, err := websocket.Dial(t.Context(), url+"/ws", ann)
		if err == nil {
			_ = conn.CloseNow()
		}
		return err == nil
	})
	if n := h.StreamStats().Refused["key"]; n < 2 {
		t.Errorf("%d refused because of their key", n)
	}
}

func TestOneMoreStreamThanMaxIsRefusedWith503(t *testing.T) {
	h := started(t, streams.Config{Max: 2, Authorize: func(r *http.Request) error {
		if r.Header.Get("Asked") != "" {
			t.Error("Authorize was asked though there was no room")
		}
		return nil
	}})
	var told pooltest.Events
	defer h.Subscribe(told.Add)()
	url := serve(t, h.SSE(follow("t")))
	open(t, http.DefaultClient, url)
	open(t, http.DefaultClient, url)
	resp := refused(t, url, "Asked", "x")
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("the third: %s %v", resp.Status, resp.Header)
	}
	if e := told.Of(poolkeeper.EventLimits); len(e) != 1 {
		t.Errorf("%d events of kind limits", len(e))
	}
}

type teapot struct{ error }

func (teapot) StatusCode() int { return http.StatusTeapot }

func TestAuthorizeRefusesBeforeTheUpgrade(t *testing.T) {
	type user struct{}
	h := started(t, streams.Config{Authorize: func(r *http.Request) error {
		switch r.Header.Get("Authorization") {
		case "":
			return errors.New("the secret reason")
		case "tea":
			return fmt.Errorf("no coffee: %w", teapot{errors.New("short and stout")})
		case "panic":
			panic("authorize")
		}
		*r = *r.WithContext(context.WithValue(r.Context(), user{}, "ann"))
		return nil
	}})
	var told pooltest.Events
	defer h.Subscribe(told.Add)()
	whoami := func(ctx context.Context, s *streams.Stream) error {
		name, _ := ctx.Value(user{}).(string)
		return s.Send(ctx, streams.Event{Data: []byte(name)})
	}
	mux := http.NewServeMux()
	mux.Handle("/sse", h.SSE(whoami))
	mux.Handle("/ws", h.WebSocket(func(ctx context.Context, c *streams.Conn) error { return whoami(ctx, c.Stream) }))
	url := serve(t, mux)
	for header, want := range map[string]int{"": http.StatusUnauthorized, "tea": http.StatusTeapot, "panic": http.StatusInternalServerError} {
		_, resp, err := websocket.Dial(t.Context(), url+"/ws", &websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {header}}})
		if err == nil || resp.StatusCode != want {
			t.Errorf("WebSocket with %q: %v, want %d", header, resp, want)
		}
		got := refused(t, url+"/sse", "Authorization", header)
		if got.StatusCode != want || strings.Contains(got.Status, "secret") {
			t.Errorf("SSE with %q: %s, want %d", header, got.Status, want)
		}
		if want == http.StatusUnauthorized && got.Header.Get("WWW-Authenticate") == "" {
			t.Error("401 without WWW-Authenticate")
		}
	}
	if got := open(t, http.DefaultClient, url+"/sse", "Authorization", "x").data(); got != "ann" {
		t.Errorf("the SSE handler knows %q", got)
	}
	if got, _ := text(t, dial(t, url+"/ws", &websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {"x"}}})); got != "ann" {
		t.Errorf("the WebSocket handler knows %q", got)
	}
	r := h.StreamStats().Refused
	if r["unauthorized"] != 4 || r["panic"] != 2 || len(told.Of(poolkeeper.EventPanic)) != 2 {
		t.Errorf("refused: %v", r)
	}
}

func TestRequestsThatCannotBecomeStreamsTakeNoPlace(t *testing.T) {
	h := started(t, streams.Config{Max: 1})
	var told pooltest.Events
	defer h.Subscribe(told.Add)()
	mux := http.NewServeMux()
	mux.Handle("/ws", h.WebSocket(followWS("t")))
	mux.Handle("/sse", h.SSE(follow("t")))
	url := serve(t, mux)
	if resp := refused(t, url+"/ws"); resp.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("a plain request for a WebSocket: %s", resp.Status)
	}
	if resp := refused(t, url+"/ws", "Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13",
		"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==", "Origin", "https://evil.example"); resp.StatusCode != http.StatusForbidden {
		t.Errorf("from a foreign origin: %s", resp.Status)
	}
	if resp, err := http.Head(url + "/sse"); err != nil || resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("HEAD: %v %v", resp, err)
	}
	// A middleware that hides what the ResponseWriter can do.
	w := httptest.NewRecorder()
	h.SSE(follow("t")).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
	if w.Code != http.StatusInternalServerError || len(told.Of(poolkeeper.EventMisuse)) != 1 {
		t.Errorf("a ResponseWriter without deadlines: %d", w.Code)
	}
	dial(t, url+"/ws", nil)
	if n := h.StreamStats().Refused["handshake"]; n != 4 {
		t.Errorf("%d handshakes refused", n)
	}
}

func TestHubThatIsNotStartedOrIsStoppedRefuses(t *testing.T) {
	h, err := streams.New(streams.Config{Logger: testkit.Silent()})
	if err != nil {
		t.Fatal(err)
	}
	url := serve(t, h.SSE(follow("t")))
	if resp := refused(t, url); resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("before Start: %s", resp.Status)
	}
	if err := errors.Join(h.Stop(t.Context()), h.Stop(t.Context()), h.Abort()); err != nil {
		t.Error(err)
	}
	if resp := refused(t, url); resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("after Stop: %s", resp.Status)
	}
	if err := h.Start(t.Context()); !errors.Is(err, poolkeeper.ErrClosed) {
		t.Errorf("Start after Stop: %v", err)
	}
	if err := h.Broadcast("t", streams.Event{}); !errors.Is(err, poolkeeper.ErrClosed) {
		t.Errorf("Broadcast after Stop: %v", err)
	}
	if n := h.Stats().Refused; n != 2 {
		t.Errorf("%d refused", n)
	}
}
