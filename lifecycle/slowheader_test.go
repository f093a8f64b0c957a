package lifecycle_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/poolkeeper/poolkeeper/lifecycle"
)

// A client that sends half a header is cut off, by the time-out of the http.Server if it has any. One
// that is done with the header has all the time it needs.
func TestAHeaderThatDoesNotEndIsCutOff(t *testing.T) {
	const never = time.Hour
	for name, tt := range map[string]struct {
		srv  *http.Server
		want time.Duration
	}{
		"by default":             {&http.Server{}, lifecycle.DefaultReadHeaderTimeout},
		"by ReadHeaderTimeout":   {&http.Server{ReadHeaderTimeout: time.Minute}, time.Minute},
		"by ReadTimeout":         {&http.Server{ReadTimeout: 2 * time.Minute}, 2 * time.Minute},
		"never, if it is off":    {&http.Server{ReadHeaderTimeout: -1}, never},
		"never, if reads may be": {&http.Server{ReadTimeout: -1}, never},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tt.srv.Handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
				l := &pipeListener{conns: make(chan net.Conn), gone: make(chan struct{})}
				s := lifecycle.HTTPServer(tt.srv, lifecycle.WithListen(func(context.Context) (net.Listener, error) { return l, nil }))
				if err := s.Start(t.Context()); err != nil {
					t.Fatal(err)
				}
				slow, theirs := net.Pipe()
				l.conns <- theirs
				began := time.Now()
				_, _ = io.WriteString(slow, "GET / HTTP/1.1\r\nHost: h\r\nX-Slow: ")
				_ = slow.SetReadDeadline(began.Add(never))
				_, _ = io.Copy(io.Discard, slow) // ends when the server hangs up
				if took := time.Since(began); took != tt.want {
					t.Errorf("cut off after %s, want %s", took, tt.want)
				}
				if tt.srv.ReadTimeout == 0 {
					body, theirs := net.Pipe()
					l.conns <- theirs
					_, _ = io.WriteString(body, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n")
					time.Sleep(10 * time.Minute)
					_, _ = io.WriteString(body, "x")
					if resp, err := http.ReadResponse(bufio.NewReader(body), nil); err != nil || resp.StatusCode != http.StatusOK {
						t.Errorf("a slow body: %v", err)
					}
					_ = body.Close()
				}
				_ = slow.Close()
				if err := s.Stop(t.Context()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
