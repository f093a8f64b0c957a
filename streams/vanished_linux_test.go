package streams_test

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/streams"
)

// vanish makes the kernel drop whatever arrives at a socket: its peer gets no acknowledgement any
// more, as from a host that has lost its network.
func vanish(t *testing.T, c *net.TCPConn) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	drop := []syscall.SockFilter{{Code: syscall.BPF_RET | syscall.BPF_K}} // return 0
	var refused error
	if err := raw.Control(func(fd uintptr) { refused = syscall.AttachLsf(int(fd), drop) }); err != nil { //nolint:staticcheck // x/net/bpf is a module more
		t.Fatal(err)
	}
	if refused != nil {
		t.Skipf("this system allows no socket filter: %v", refused)
	}
}

// vanishing opens an SSE stream. gone makes its client vanish.
func vanishing(t *testing.T, url string) (stream *source, gone func()) {
	t.Helper()
	var conn *net.TCPConn
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // the server of this test
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, network, address)
			conn, _ = c.(*net.TCPConn)
			return c, err
		},
		ForceAttemptHTTP2: true,
	}
	t.Cleanup(func() { transport.CloseIdleConnections(); _ = conn.Close() })
	stream = open(t, &http.Client{Transport: transport}, url)
	return stream, func() { vanish(t, conn) }
}

// TCP's keep-alive does not find such a peer: a comment that is not acknowledged holds it up, and is
// sent again for some 15 minutes.
func TestSSEPeerThatVanishesIsOutAfterPongWait(t *testing.T) {
	testkit.Slow(t)
	servers := map[string]func(*testing.T, http.Handler) (url string){
		"http.Server with ConnContext": func(t *testing.T, h http.Handler) string {
			t.Helper()
			srv := httptest.NewUnstartedServer(h)
			srv.Config.ConnContext = streams.ConnContext
			srv.Start()
			t.Cleanup(srv.Close)
			return srv.URL
		},
		"HTTP/2 with ConnContext": func(t *testing.T, h http.Handler) string {
			t.Helper()
			srv := httptest.NewUnstartedServer(h)
			srv.Config.ConnContext = streams.ConnContext
			srv.EnableHTTP2 = true
			srv.StartTLS()
			t.Cleanup(srv.Close)
			return srv.URL
		},
		"lifecycle.HTTPServer": func(t *testing.T, h http.Handler) string {
			t.Helper()
			srv := lifecycle.HTTPServer(&http.Server{Addr: "127.0.0.1:0", Handler: h, ReadHeaderTimeout: time.Minute})
			if err := srv.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = srv.Abort() })
			return "http://" + srv.Addr().String()
		},
	}
	for name, begin := range servers {
		t.Run(name, func(t *testing.T) {
			h := started(t, streams.Config{Ping: 100 * time.Millisecond, PongWait: time.Second})
			url := begin(t, h.SSE(follow("t")))
			_, gone := vanishing(t, url)
			live, _ := vanishing(t, url)
			subscribed(t, h, "t", 2)
			gone()
			testkit.Eventually(t, "the peer is out", func() bool { return h.StreamStats().SSE == 1 })
			for range 20 { // comments, over twice PongWait
				if _, ok := live.block(); !ok {
					t.Fatalf("the live peer was taken for dead: %+v", h.StreamStats())
				}
			}
		})
	}
}
