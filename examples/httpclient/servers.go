package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"time"
)

// servers are those that the example requests from.
type servers struct {
	plain  string      // stalls at /header, /body and /drip, and answers elsewhere
	secure string      // answers, by TLS
	trust  *tls.Config // of secure
	mute   string      // accepts connections and says nothing

	hang chan struct{} // closed to end what stalls
	ends []func()
}

func newServers(ctx context.Context) (*servers, error) {
	s := &servers{hang: make(chan struct{})}
	plain := httptest.NewServer(http.HandlerFunc(s.answer))
	secure := httptest.NewTLSServer(http.HandlerFunc(s.answer))
	s.plain, s.secure, s.ends = plain.URL, secure.URL, []func(){plain.Close, secure.Close}
	if t, ok := secure.Client().Transport.(*http.Transport); ok {
		s.trust = t.TLSClientConfig
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		s.close()
		return nil, err
	}
	s.mute = "https://" + l.Addr().String() + "/"
	var wg sync.WaitGroup
	wg.Go(func() { s.accept(l) })
	s.ends = append(s.ends, func() { _ = l.Close(); wg.Wait() })
	return s, nil
}

func (s *servers) answer(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/header":
		<-s.hang
	case "/body":
		_, _ = io.WriteString(w, "begun")
		_ = http.NewResponseController(w).Flush()
		<-s.hang
	case "/drip":
		for r.Context().Err() == nil {
			_, _ = io.WriteString(w, ".")
			_ = http.NewResponseController(w).Flush()
			select {
			case <-r.Context().Done():
			case <-time.After(quick / 10):
			}
		}
	default:
		_, _ = fmt.Fprintln(w, "hello")
	}
}

// accept keeps what it accepts until the end.
func (s *servers) accept(l net.Listener) {
	var open []net.Conn
	for {
		c, err := l.Accept()
		if err != nil {
			break
		}
		open = append(open, c)
	}
	for _, c := range open {
		_ = c.Close()
	}
}

// close ends what stalls, and the servers.
func (s *servers) close() {
	close(s.hang)
	for _, end := range s.ends {
		end()
	}
}

// blackHole is a network in which packets are lost: a dial gets no answer.
func blackHole(ctx context.Context, _, _ string) (net.Conn, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// fetch requests url and reads the response to its end.
func fetch(ctx context.Context, c *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	return nil
}
