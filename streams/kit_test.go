package streams_test

import (
	"bufio"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/coder/websocket"

	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/streams"
)

// started returns a hub that admits streams, and stops it at the end of the test.
func started(tb testing.TB, cfg streams.Config) *streams.Hub {
	tb.Helper()
	if cfg.Logger == nil {
		cfg.Logger = testkit.Silent()
	}
	h, err := streams.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	if err := h.Start(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = h.Abort() })
	return h
}

// serve serves a handler on a free port.
func serve(tb testing.TB, h http.Handler) (url string) {
	tb.Helper()
	srv := httptest.NewServer(h)
	tb.Cleanup(srv.Close)
	return srv.URL
}

// follow are handlers that pass on topics.
func follow(topics ...string) func(context.Context, *streams.Stream) error {
	return func(_ context.Context, s *streams.Stream) error { return s.Follow(topics...) }
}

func followWS(topics ...string) func(context.Context, *streams.Conn) error {
	return func(_ context.Context, c *streams.Conn) error { return c.Follow(topics...) }
}

// subscribed waits until a topic has so many subscribers.
func subscribed(tb testing.TB, h *streams.Hub, topic string, n int) {
	tb.Helper()
	testkit.Eventually(tb, "the topic has its subscribers", func() bool { return h.StreamStats().Topics[topic] == n })
}

// network is HTTP in memory, for bubbles: a write blocks until its peer reads.
type network struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newNetwork() *network { return &network{conns: make(chan net.Conn), done: make(chan struct{})} }

func (n *network) Accept() (net.Conn, error) {
	select {
	case c := <-n.conns:
		return c, nil
	case <-n.done:
		return nil, net.ErrClosed
	}
}
func (n *network) Close() error   { n.once.Do(func() { close(n.done) }); return nil }
func (n *network) Addr() net.Addr { return &net.UnixAddr{Name: "memory", Net: "pipe"} }

func (n *network) DialContext(context.Context, string, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case n.conns <- theirs:
		return ours, nil
	case <-n.done:
		return nil, errors.New("the server is gone")
	}
}

// serveInMemory serves a handler until the end of the bubble.
func serveInMemory(t *testing.T, h http.Handler) (n *network, client *http.Client) {
	t.Helper()
	memory := newNetwork()
	srv := &http.Server{Handler: h}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = srv.Serve(memory)
	}()
	transport := &http.Transport{DialContext: memory.DialContext}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		_ = srv.Close()
		<-served
	})
	return memory, &http.Client{Transport: transport}
}

// dial opens a WebSocket.
func dial(tb testing.TB, url string, opts *websocket.DialOptions) *websocket.Conn {
	tb.Helper()
	conn, _, err := websocket.Dial(tb.Context(), strings.Replace(url, "http", "ws", 1), opts)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.CloseNow() })
	return conn
}

// text reads a message, or the status with which the connection was closed.
func text(tb testing.TB, c *websocket.Conn) (string, websocket.StatusCode) {
	tb.Helper()
	_, data, err := c.Read(tb.Context())
	return string(data), websocket.CloseStatus(err)
}

// source is an SSE client.
type source struct {
	*http.Response

	lines *bufio.Scanner
}

// open opens an SSE stream. header is in pairs.
func open(tb testing.TB, client *http.Client, url string, header ...string) *source {
	tb.Helper()
	req, err := http.NewRequestWithContext(tb.Context(), http.MethodGet, url, nil)
	if err != nil {
		tb.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := client.Do(req)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = resp.Body.Close() })
	return &source{resp, bufio.NewScanner(resp.Body)}
}

// block returns the lines up to the next empty one, or ok = false at the end of the stream.
func (s *source) block() (lines []string, ok bool) {
	for s.lines.Scan() {
		if s.lines.Text() == "" {
			return lines, true
		}
		lines = append(lines, s.lines.Text())
	}
	return lines, false
}

// data returns the data of the next event.
func (s *source) data() string {
	for {
		lines, ok := s.block()
		if !ok && s.lines.Err() != nil {
			return "(broken)"
		}
		if !ok {
			return "(end)"
		}
		var data []string
		for _, l := range lines {
			if d, is := strings.CutPrefix(l, "data: "); is {
				data = append(data, d)
			}
		}
		if data != nil {
			return strings.Join(data, "\n")
		}
	}
}

// event returns one broadcast under a topic.
func broadcast(tb testing.TB, h *streams.Hub, topic string, texts ...string) {
	tb.Helper()
	for _, text := range texts {
		if err := h.Broadcast(topic, streams.Event{Data: []byte(text)}); err != nil {
			tb.Fatal(err)
		}
	}
}

func quietLogger() *slog.Logger { return testkit.Silent() }
