package sqlpool_test

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
)

// proxy stands between a pool and a server and can make the network behave badly.
type proxy struct {
	l  net.Listener
	wg sync.WaitGroup

	mu      sync.Mutex // guards the following
	target  string
	silent  bool // new connections are accepted and then nothing comes
	conns   map[net.Conn]bool
	swallow chan struct{} // closed: what established connections send is lost from now on
}

func newProxy(tb testing.TB, target string) *proxy {
	tb.Helper()
	l, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	p := &proxy{l: l, target: target, conns: make(map[net.Conn]bool), swallow: make(chan struct{})}
	p.wg.Go(p.accept)
	tb.Cleanup(func() {
		_ = l.Close()
		p.mu.Lock()
		for c := range p.conns {
			_ = c.Close()
		}
		p.mu.Unlock()
		p.wg.Wait()
	})
	return p
}

func (p *proxy) addr() string { return p.l.Addr().String() }

// redirect leads new connections to another server.
func (p *proxy) redirect(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

// blackhole loses everything that established connections send or are sent, for ever, and says nothing.
func (p *proxy) blackhole() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.swallow)
	p.swallow = make(chan struct{})
}

// vanish makes new connections silent too, until it is called with false.
func (p *proxy) vanish(silent bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.silent = silent
}

func (p *proxy) accept() {
	for {
		c, err := p.l.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		target, silent, swallow := p.target, p.silent, p.swallow
		p.conns[c] = true
		p.mu.Unlock()
		p.wg.Go(func() {
			defer p.forget(c)
			if silent {
				_, _ = io.Copy(io.Discard, c)
				return
			}
			p.forward(c, target, swallow)
		})
	}
}

func (p *proxy) forget(c net.Conn) {
	_ = c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

func (p *proxy) forward(c net.Conn, target string, swallow chan struct{}) {
	s, err := new(net.Dialer).DialContext(context.Background(), "tcp", target)
	if err != nil {
		return
	}
	p.mu.Lock()
	p.conns[s] = true
	p.mu.Unlock()
	defer p.forget(s)
	up, down := make(chan struct{}), make(chan struct{})
	p.wg.Go(func() { defer close(up); pump(s, c, swallow) })
	p.wg.Go(func() { defer close(down); pump(c, s, swallow) })
	select {
	case <-up:
	case <-down:
	}
	select {
	case <-swallow: // the other side must not hear that this one has hung up
		<-up
	default:
	}
	_, _ = c.Close(), s.Close()
	<-up
	<-down
}

// pump copies until either side ends; once swallow is closed, into nothing.
func pump(to io.Writer, from io.Reader, swallow chan struct{}) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		select {
		case <-swallow:
			continue
		default:
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}
