package streams_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/test/pooltest"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/streams"
)

var (
	_ lifecycle.Component           = (*streams.Hub)(nil)
	_ lifecycle.Drainer             = (*streams.Hub)(nil)
	_ lifecycle.Aborter             = (*streams.Hub)(nil)
	_ lifecycle.NameSetter          = (*streams.Hub)(nil)
	_ lifecycle.EventSource         = (*streams.Hub)(nil)
	_ lifecycle.HolderLister        = (*streams.Hub)(nil)
	_ lifecycle.SettingsProvider    = (*streams.Hub)(nil)
	_ lifecycle.ServerStatsProvider = (*streams.Hub)(nil)

	_ lifecycle.Component   = (*streams.Client)(nil)
	_ lifecycle.Checker     = (*streams.Client)(nil)
	_ lifecycle.NameSetter  = (*streams.Client)(nil)
	_ lifecycle.EventSource = (*streams.Client)(nil)
)

func TestBroadcastReachesTheSubscribersOfATopicOnBothKinds(t *testing.T) {
	h := started(t, streams.Config{})
	mux := http.NewServeMux()
	mux.Handle("/ws", h.WebSocket(followWS("orders")))
	mux.Handle("/sse", h.SSE(follow("orders", "news")))
	url := serve(t, mux)
	ws, sse := dial(t, url+"/ws", nil), open(t, http.DefaultClient, url+"/sse")
	subscribed(t, h, "orders", 2)
	broadcast(t, h, "orders", "1")
	broadcast(t, h, "news", "2")
	broadcast(t, h, "nothing", "x")
	broadcast(t, h, "orders", "3")
	for _, want := range []string{"1", "3"} {
		if got, _ := text(t, ws); got != want {
			t.Errorf("the WebSocket got %q, want %q", got, want)
		}
	}
	for _, want := range []string{"1", "2", "3"} {
		if got := sse.data(); got != want {
			t.Errorf("the SSE client got %q, want %q", got, want)
		}
	}
	testkit.Eventually(t, "5 events are counted as sent", func() bool { return h.StreamStats().Sent == 5 })
	if s := h.Stats(); s.InFlight != 2 || s.Hijacked != 1 || s.Requests != 2 {
		t.Errorf("Stats = %+v", s)
	}
}

func TestHandlersTalkToTheirOwnPeer(t *testing.T) {
	h := started(t, streams.Config{Accept: websocket.AcceptOptions{Subprotocols: []string{"echo"}}})
	url := serve(t, h.WebSocket(func(ctx context.Context, c *streams.Conn) error {
		for {
			kind, data, err := c.Read(ctx)
			switch {
			case err != nil:
				return err
			case string(data) == "enough":
				return nil
			case string(data) == "broken":
				return websocket.CloseError{Code: 4001, Reason: "broken"}
			case string(data) == "error":
				return errors.New("a secret")
			case kind == websocket.MessageBinary:
				err = c.Write(kind, data)
			default:
				err = c.Send(ctx, streams.Event{Data: []byte(c.Subprotocol() + " " + string(data))})
			}
			if err != nil {
				return err
			}
		}
	}))
	for last, want := range map[string]websocket.StatusCode{
		"enough": websocket.StatusNormalClosure, "broken": 4001, "error": websocket.StatusInternalError,
	} {
		ws := dial(t, url, &websocket.DialOptions{Subprotocols: []string{"echo"}})
		for _, m := range []struct {
			kind       websocket.MessageType
			text, want string
		}{{websocket.MessageText, "hello", "echo hello"}, {websocket.MessageBinary, "\x00\xff", "\x00\xff"}} {
			if err := ws.Write(t.Context(), m.kind, []byte(m.text)); err != nil {
				t.Fatal(err)
			}
			if kind, data, err := ws.Read(t.Context()); err != nil || kind != m.kind || string(data) != m.want {
				t.Errorf("%v %q %v, want %q", kind, data, err, m.want)
			}
		}
		if err := ws.Write(t.Context(), websocket.MessageText, []byte(last)); err != nil {
			t.Fatal(err)
		}
		_, _, err := ws.Read(t.Context())
		if websocket.CloseStatus(err) != want || strings.Contains(err.Error(), "secret") {
			t.Errorf("after %q: %v, want %v", last, err, want)
		}
	}
	testkit.Eventually(t, "all have ended", func() bool { return h.Stats().InFlight == 0 })
	if e := h.StreamStats().Ended; e["done"] != 1 || e["failed"] != 2 {
		t.Errorf("ended: %v", e)
	}
}

func TestPeerThatClosesIsSeenByItsHandler(t *testing.T) {
	h := started(t, streams.Config{})
	seen := make(chan error, 1)
	url := serve(t, h.WebSocket(func(ctx context.Context, c *streams.Conn) error {
		_, _, err := c.Read(ctx)
		seen <- err
		return err
	}))
	if err := dial(t, url, nil).Close(4002, "bye"); err != nil {
		t.Error(err)
	}
	if err := <-seen; websocket.CloseStatus(err) != 4002 {
		t.Errorf("the handler got %v", err)
	}
	testkit.Eventually(t, "the stream has ended", func() bool { return h.StreamStats().Ended["peer"] == 1 })
}

func TestPanicEndsOnlyItsOwnConnection(t *testing.T) {
	h := started(t, streams.Config{})
	var told pooltest.Events
	defer h.Subscribe(told.Add)()
	mux := http.NewServeMux()
	mux.Handle("/ws", h.WebSocket(followWS("t")))
	mux.Handle("/sse/panic", h.SSE(func(context.Context, *streams.Stream) error { panic("sse") }))
	mux.Handle("/ws/panic", h.WebSocket(func(context.Context, *streams.Conn) error { panic("ws") }))
	url := serve(t, mux)
	good := dial(t, url+"/ws", nil)
	subscribed(t, h, "t", 1)
	if _, code := text(t, dial(t, url+"/ws/panic", nil)); code != websocket.StatusInternalError {
		t.Errorf("closed with %v", code)
	}
	if got := open(t, http.DefaultClient, url+"/sse/panic").data(); got != "(end)" {
		t.Errorf("the SSE client got %q", got)
	}
	broadcast(t, h, "t", "still here")
	if got, _ := text(t, good); got != "still here" {
		t.Errorf("the other connection got %q", got)
	}
	testkit.Eventually(t, "both panics are told", func() bool { return len(told.Of(poolkeeper.EventPanic)) == 2 })
	if e := h.StreamStats().Ended; e["panic"] != 2 {
		t.Errorf("ended: %v", e)
	}
}

func TestMessageLongerThanReadLimitClosesItsConnection(t *testing.T) {
	h := started(t, streams.Config{ReadLimit: 1000})
	conn := dial(t, serve(t, h.WebSocket(followWS("t"))), nil)
	if err := conn.Write(t.Context(), websocket.MessageText, make([]byte, 1001)); err != nil {
		t.Fatal(err)
	}
	if _, code := text(t, conn); code != websocket.StatusMessageTooBig {
		t.Errorf("closed with %d", code)
	}
}

func TestSendWaitsForRoomAndEndsWithTheStream(t *testing.T) {
	h := started(t, streams.Config{Buffer: 2, Replay: streams.NoReplay})
	const n = 500
	failed := make(chan error, 1)
	url := serve(t, h.SSE(func(ctx context.Context, s *streams.Stream) error {
		for range n {
			if err := s.Send(ctx, streams.Event{Data: []byte("x")}); err != nil {
				return err
			}
		}
		go func() { // outlives the handler
			<-ctx.Done()
			failed <- s.Send(context.Background(), streams.Event{Data: []byte("late")})
		}()
		return nil
	}))
	sse := open(t, http.DefaultClient, url)
	for i := range n {
		if got := sse.data(); got != "x" {
			t.Fatalf("event %d is %q", i, got)
		}
	}
	if got := sse.data(); got != "(end)" {
		t.Errorf("after the handler's end: %q", got)
	}
	if err := <-failed; err == nil {
		t.Error("Send succeeded after the end")
	}
}
