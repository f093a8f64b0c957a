package testkit

import (
	"context"
	"net"
	"sync"
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
	stall    int           // if not 0, connections made now hear so many bytes, and then nothing
	trickle  bool          // what is sent arrives one byte at a time
	links    map[*link]struct{}
	closed   bool
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
	p.target, p.mute, p.answers, p.stall = target, false, 0, 0
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

// Reset ends the connections there are by a reset, on both sides.
func (p *Proxy) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for k := range p.links {
		k.reset()
	}
}

// CutAfter ends each of the connections there are when its client has heard n bytes more.
func (p *Proxy) CutAfter(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for k := range p.links {
		k.limit(n, hangUp)
	}
}

// StallAfter has new connections hear n bytes, and nothing more for ever. With 0 they hear all
// again.
func (p *Proxy) StallAfter(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stall = n
}

// Trickle has all that is sent arrive one byte at a time, until it is called with false.
func (p *Proxy) Trickle(trickle bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trickle = trickle
	for k := range p.links {
		k.trickle.Store(trickle)
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
		k.trickle.Store(p.trickle)
		if p.stall > 0 {
			k.limit(p.stall, silence)
		}
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
