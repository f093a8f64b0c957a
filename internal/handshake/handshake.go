// Package handshake times how one connection is opened, whatever the driver.
//
//	Dial ──▶ connected ──▶ ClientHello ──▶ TLS done ──▶ Ready
//	      Connect              TLS                Login
//
// It watches the socket and the TLS configuration that a driver is given. It knows no protocol but
// the first byte of TLS, and opens no connection itself.
package handshake

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/expiry"
)

// DialFunc opens a socket for a driver.
type DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

// Watch times one connection until Ready. If that is closed before, it times the next. It is safe for
// concurrent use.
type Watch struct {
	mu    sync.Mutex // guards the following
	times times
	busy  bool // a connection is watched that has not been closed
	chain []*x509.Certificate
	tls   uint16 // version
}

// times holds the times of one connection. A step that was not reached is zero.
type times struct{ began, connected, hello, secured, ready time.Time }

// Dial returns dial, watched.
func (w *Watch) Dial(dial DialFunc) DialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if !w.begin() {
			c, err := dial(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return &conn{Conn: c}, nil
		}
		c, err := dial(ctx, network, addr)
		if err != nil {
			w.end()
			return nil, err
		}
		w.note(func(t *times) { t.connected = time.Now() })
		if secure, ok := c.(*tls.Conn); ok { // a dialer of the service's that speaks TLS itself
			w.Secured(secure.ConnectionState())
			return c, nil
		}
		return &conn{Conn: c, watch: w}, nil
	}
}

// begin reports whether to watch a connection that is opened now.
func (w *Watch) begin() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.busy || !w.times.ready.IsZero() {
		return false
	}
	w.busy, w.times = true, times{began: time.Now()}
	return true
}

// end notes that the connection is gone. Its times stay until another is opened.
func (w *Watch) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.busy = false
}

// Config returns a copy of c, watched. nil is no TLS, and stays nil.
func (w *Watch) Config(c *tls.Config) *tls.Config {
	if c == nil {
		return nil
	}
	own, user := c.Clone(), c.VerifyConnection
	own.VerifyConnection = func(state tls.ConnectionState) error {
		w.Secured(state)
		if user != nil {
			return user(state)
		}
		return nil
	}
	return own
}

// Secured notes that the TLS handshake is over.
func (w *Watch) Secured(state tls.ConnectionState) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.times.ready.IsZero() && w.times.secured.IsZero() {
		w.times.secured = time.Now()
		w.chain, w.tls = state.PeerCertificates, state.Version
	}
}

// Failed takes the certificates of the server from the error of a handshake.
func (w *Watch) Failed(err error) {
	e, ok := errors.AsType[*tls.CertificateVerificationError](err)
	w.mu.Lock()
	defer w.mu.Unlock()
	if ok && w.chain == nil {
		w.chain = e.UnverifiedCertificates
	}
}

// Ready notes that the connection is logged in. It ends the watch.
func (w *Watch) Ready() { w.note(func(t *times) { t.ready = time.Now() }) }

func (w *Watch) note(f func(*times)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.times.ready.IsZero() {
		f(&w.times)
	}
}

// Report fills in latency, TLS and certificates. Login is the time from TLS, or from the connect, to
// Ready, less inLogin, which was spent on other work.
func (w *Watch) Report(out *poolkeeper.ServerInfo, inLogin time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.times
	out.Latency.Connect = between(t.began, t.connected)
	out.Latency.TLS = between(t.hello, t.secured)
	since := t.connected
	if !t.secured.IsZero() {
		since = t.secured
	}
	if total := between(since, t.ready); total > 0 {
		out.Latency.Login = max(total-inLogin, time.Microsecond)
	}
	if w.tls != 0 {
		out.TLS = tls.VersionName(w.tls)
	}
	for i, c := range w.chain {
		kind := poolkeeper.ExpiryServerCertificate
		if i > 0 {
			kind = poolkeeper.ExpiryCA
		}
		out.Certificates = append(out.Certificates, expiry.Of(kind, c))
	}
}

// between returns the time from one moment to another, or 0 if either was not reached. It is at least
// 1 µs, as the clock may not tick in between.
func between(from, to time.Time) time.Duration {
	if from.IsZero() || to.IsZero() {
		return 0
	}
	return max(to.Sub(from), time.Microsecond)
}

// mostPings bounds how many pings Pings sends.
const mostPings = 50

// PingsLimit bounds for how long Pings sends pings.
const PingsLimit = time.Second

// Pings calls ping up to 50 times, for up to PingsLimit, and puts the percentiles in out. It fails if
// the first ping fails.
func Pings(ctx context.Context, out *poolkeeper.Latency, ping func(context.Context) error) error {
	var took []time.Duration
	for began := time.Now(); len(took) < mostPings && (len(took) == 0 || time.Since(began) < PingsLimit); {
		asked := time.Now()
		if err := ping(ctx); err != nil {
			if len(took) == 0 {
				return err
			}
			break
		}
		took = append(took, max(time.Since(asked), time.Microsecond))
	}
	slices.Sort(took)
	out.Pings, out.PingP50, out.PingP99 = len(took), rank(took, 50), rank(took, 99)
	return nil
}

// rank is a percentile by the nearest rank, of values that are sorted.
func rank(sorted []time.Duration, percent int) time.Duration {
	return sorted[(len(sorted)*percent+99)/100-1]
}

// mostRead bounds what one connection reads, in bytes. A server that is none, or a broken one, may
// send without end, and drivers keep all of a line or a message in memory.
const mostRead = 16 << 20

var errTooMuch = fmt.Errorf("the server has sent more than %d MiB in answer to a few questions", mostRead>>20)

// conn bounds what is read, and notes when the ClientHello is sent.
type conn struct {
	net.Conn

	watch *Watch // nil: it is not watched
	read  atomic.Int64
}

// Read fails once the server has sent too much.
func (c *conn) Read(b []byte) (int, error) {
	if c.read.Load() > mostRead {
		return 0, errTooMuch
	}
	n, err := c.Conn.Read(b)
	c.read.Add(int64(n))
	return n, err
}

// handshakeRecord is the first byte of a record of TLS that has a part of a handshake in it
// (RFC 8446, 5.1).
const handshakeRecord = 22

// Write notes the first handshake record.
func (c *conn) Write(b []byte) (int, error) {
	if c.watch != nil && len(b) > 0 && b[0] == handshakeRecord {
		c.watch.note(func(t *times) {
			if t.hello.IsZero() {
				t.hello = time.Now()
			}
		})
	}
	return c.Conn.Write(b)
}

// Close closes the socket.
func (c *conn) Close() error {
	if c.watch != nil {
		c.watch.end()
	}
	return c.Conn.Close()
}

// SyscallConn lets drivers look at the socket.
func (c *conn) SyscallConn() (syscall.RawConn, error) {
	if s, ok := c.Conn.(syscall.Conn); ok {
		return s.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}
