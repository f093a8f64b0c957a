package testkit

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// link is one connection through the proxy.
type link struct {
	client  net.Conn
	lost    atomic.Bool  // what comes is swallowed
	unknown atomic.Bool  // the next byte from the client is answered by a reset
	delay   atomic.Int64 // a time.Duration
	trickle atomic.Bool  // what is sent arrives one byte at a time

	mu     sync.Mutex // guards the following
	ending ending     // what becomes of the link when left is 0
	left   int        // bytes to the client until then
	server net.Conn   // nil before it is dialed, and for a link that never is
	closed bool
}

// ending is what becomes of a link whose client has heard what it may.
type ending int

const (
	endless ending = iota // nothing
	silence
	hangUp
)

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
		if k.pass(to, buf[:n]) != nil {
			return
		}
	}
}

// pass writes what a limit leaves of data. It returns an error if the link has ended.
func (k *link) pass(to net.Conn, data []byte) error {
	then := endless
	if to == k.client {
		data, then = k.take(data)
	}
	for len(data) > 0 {
		part := data
		if k.trickle.Load() {
			part = data[:1]
		}
		n, err := to.Write(part)
		if err != nil {
			return err
		}
		data = data[n:]
	}
	switch then {
	case silence:
		k.lost.Store(true)
	case hangUp:
		return io.EOF
	case endless:
	}
	return nil
}

// limit lets the client hear n bytes more.
func (k *link) limit(n int, then ending) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.left, k.ending = n, then
}

// take returns what the client may hear of data, and what becomes of the link afterwards.
func (k *link) take(data []byte) ([]byte, ending) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ending == endless {
		return data, endless
	}
	n := min(len(data), k.left)
	k.left -= n
	if k.left > 0 {
		return data[:n], endless
	}
	return data[:n], k.ending
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

// reset closes the link so that either side hears of a reset.
func (k *link) reset() {
	k.mu.Lock()
	for _, c := range []net.Conn{k.client, k.server} {
		if c, ok := c.(*net.TCPConn); ok {
			_ = c.SetLinger(0)
		}
	}
	k.mu.Unlock()
	k.close()
}
