package testkit

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Proxy stands between clients and a server for the network and the name service: it forwards to
// what the name stands for now, and can lose what is sent without a sign of it. Its methods are
// safe for concurrent use.
type Proxy struct {
	addr    string
	running sync.WaitGroup // the goroutines of the proxy, which end with the test

	mu       sync.Mutex   // guards the following
	listener net.Listener // closed while connections are refused
	target   string
	mute     bool          // connections made now are never answered
	answers  int           // if not 0, mute begins after so many connections more
	delay    time.Duration // of what connections made from now on send, each way
	links    map[*link]struct{}
	closed   bool
}

// link is one connection through the proxy.
type link struct {
	client  net.Conn
	lost    atomic.Bool  // what comes is swallowed
	unknown atomic.Bool  // the next byte from the client is answered by a reset
	delay   atomic.Int64 // a time.Duration

	mu     sync.Mutex // guards the following
	server net.Conn   // nil before it is dialed, and for a link that never is
	closed bool
}

// NewProxy starts a proxy to target, a host and port, that ends with the test, and all its
// connections with it.
func NewProxy(tb testing.TB, target string) *Proxy {
	tb.Helper()
	ctx := context.WithoutCancel(tb.Context())                       // to dial even for what a Cleanup does
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", FreeAddr(tb)) // its own, also while it refuses connections
	if err != nil {
		tb.Fatal(err)
	}
	p := &Proxy{addr: l.Addr().String(), listener: l, target: target, links: map[*link]struct{}{}}
	p.running.Go(func() { p.accept(ctx, l) })
	tb.Cleanup(func() {
		p.mu.Lock()
		_ = p.listener.Close()
		p.closed = true
		for k := range p.links {
			k.close()
		}
		p.mu.Unlock()
		p.running.Wait()
	})
	return p
}

// Addr is where clients connect to.
func (p *Proxy) Addr() string { return p.addr }

// Point has new connections lead to target, and be answered.
func (p *Proxy) Point(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target, p.mute, p.answers = target, false, 0
}

// BlackHole loses all that is sent through the connections there are, either way and for ever.
// Neither side hears that the server has hung up.
func (p *Proxy) BlackHole() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for k := range p.links {
		k.lost.Store(true)
	}
}

// ReplaceMachine has another machine take over the server's address, which does not know of the
// connections there are: each is reset when its client sends something.
func (p *Proxy) ReplaceMachine() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for k := range p.links {
		k.unknown.Store(true)
		k.lost.Store(true)
	}
}

// Delay makes the link as long as roundTrip for connections made from now on. Connecting to the
// proxy takes no time.
func (p *Proxy) Delay(roundTrip time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = roundTrip / 2
}

// DelayAll is Delay for the connections that are open too.
func (p *Proxy) DelayAll(roundTrip time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = roundTrip / 2
	for k := range p.links {
		k.delay.Store(int64(p.delay))
	}
}

// Refuse has new connections be refused, until it is called with false.
func (p *Proxy) Refuse(tb testing.TB, refuse bool) {
	tb.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if refuse {
		_ = p.listener.Close()
		return
	}
	ctx := context.WithoutCancel(tb.Context())
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", p.addr)
	if err != nil {
		tb.Fatal(err)
	}
	p.listener = l
	p.running.Go(func() { p.accept(ctx, l) })
}

// Mute has new connections be accepted and never answered, until it is called with false.
func (p *Proxy) Mute(mute bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mute, p.answers = mute, 0
}

// MuteAfter is Mute(true) after n connections more, of which there must be at least one.
func (p *Proxy) MuteAfter(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answers = n
}

func (p *Proxy) accept(ctx context.Context, l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		k := &link{client: c}
		k.delay.Store(int64(p.delay))
		target := p.target
		k.lost.Store(p.mute)
		if p.answers > 0 {
			p.answers--
			p.mute = p.answers == 0
		}
		p.links[k] = struct{}{}
		if p.closed {
			k.close()
		}
		p.mu.Unlock()
		p.running.Go(func() {
			defer p.forget(k)
			k.forward(ctx, target)
		})
	}
}

func (p *Proxy) forget(k *link) {
	k.close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.links, k)
}

// forward copies both ways until the client hangs up, or the server does and the client may know.
func (k *link) forward(ctx context.Context, target string) {
	if k.lost.Load() {
		_, _ = io.Copy(io.Discard, k.client)
		return
	}
	server, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", target)
	if err != nil || !k.use(server) {
		return
	}
	var down sync.WaitGroup
	down.Go(func() {
		k.pump(k.client, server)
		if !k.lost.Load() {
			k.close()
		}
	})
	k.pump(server, k.client)
	k.close()
	down.Wait()
}

// pump copies until either side ends; once the link is lost, into nothing.
func (k *link) pump(to, from net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		if from == k.client && k.unknown.Load() {
			if c, ok := from.(*net.TCPConn); ok {
				_ = c.SetLinger(0) // closing it is a reset
			}
			return
		}
		if d := time.Duration(k.delay.Load()); d > 0 {
			<-time.After(d)
		}
		if k.lost.Load() {
			continue
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// use makes server the link's own, or closes it if the link is closed.
func (k *link) use(server net.Conn) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		_ = server.Close()
		return false
	}
	k.server = server
	return true
}

func (k *link) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	_ = k.client.Close()
	if k.server != nil {
		_ = k.server.Close()
	}
}
