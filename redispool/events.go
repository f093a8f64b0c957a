package redispool

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/event"
)

// newEvents returns the log of what happens to the pool.
func (p *Pool) newEvents() *event.Log {
	return event.NewLog("redispool", p.poolName, func() *slog.Logger { return p.config().Logger }, explainEvent)
}

// explainEvent names the cause of an event and what to look at first.
func explainEvent(err error) (cause, advice string) {
	f := Classify(err)
	return string(f.Kind), f.Advice
}

// reset says that connections of a node are replaced.
func (n *node) reset(why string, connections, cut int) {
	n.met.count(generationsLost)
	attrs := []slog.Attr{slog.String("node", n.addr())}
	if cut > 0 {
		attrs = append(attrs, slog.Int("cut", cut))
	}
	n.pool.events.Emit(event.OfReset(why, connections, nil, attrs...))
}

// trouble says that the pool could not do a part of its own work.
func (p *Pool) trouble(text string, err error, attrs ...slog.Attr) {
	p.events.Emit(event.Event{Kind: event.Trouble, Level: slog.LevelWarn, Text: text, Err: err, Attrs: attrs})
}

// ObserveWith makes the pool report failures of connections to o as they happen. It also reports
// the first success after a failure. It may be called again; nil turns it off. The Registry calls
// it.
func (p *Pool) ObserveWith(o poolkeeper.Observer) { p.observer.Set(o) }

// Subscribe calls fn for every event of the pool from now on, until cancel is called. Events begin
// to come with Start. fn runs on goroutines of the pool and of its callers, may be called
// concurrently, and must not block. A panic in it is logged.
func (p *Pool) Subscribe(fn func(poolkeeper.Event)) (cancel func()) { return p.events.Subscribe(fn) }

// Expiries says when the certificates expire: the client's, the servers' as the last handshake with
// each has shown it, and the authority that has verified them, or before that those of TLSFiles.CA.
// Client certificates that a function returns are not known, and authorities of TLS.RootCAs only by
// a handshake. Of a Dialer of the service only what a *tls.Conn that it returns has shown is known.
// When a password or a token expires Redis does not tell. It does no I/O and does not block.
func (p *Pool) Expiries() []poolkeeper.Expiry { return p.endpoint.Load().book.List() }

// warnOfExpiries says what expires soon, or has expired. It has no timer of its own: dials, checks
// and looks at files call it.
func (p *Pool) warnOfExpiries() {
	p.expiring.Due(p.endpoint.Load().book, func(e poolkeeper.Expiry, now time.Time) { p.events.Emit(event.OfExpiry(e, now)) })
}

// outcome takes note of how a command ended, and returns the error that its caller gets.
func (n *node) outcome(err error) error {
	if err == nil || isAnswer(err) {
		if n.troubled.Load() && n.troubled.CompareAndSwap(true, false) {
			n.pool.observer.Observe(nil)
		}
		if err != nil && err != redis.Nil { //nolint:errorlint // see isAnswer
			n.doubt(err)
		}
		return err
	}
	if d, ok := errors.AsType[*poolkeeper.DownError](err); ok {
		return n.delivered(d) // it says nothing new
	}
	err = unveiled(err)
	if e, ok := errors.AsType[*poolkeeper.AcquireError](err); ok {
		return e
	}
	n.doubt(err)
	if isConnFailure(err) {
		n.troubled.Store(true)
		n.pool.observer.Observe(err)
		return err
	}
	return n.explain(err)
}

// isAnswer reports whether the error is what the server said: there is one, and it can be reached.
func isAnswer(err error) bool {
	if err == redis.Nil { //nolint:errorlint // the frequent case, which go-redis returns bare
		return true
	}
	_, ok := errors.AsType[redis.Error](err)
	return ok
}

// isConnFailure reports whether err concerns the server or the network. An error of the pool or the
// caller does not. So the end of the caller's own context during its wait for a connection is no
// failure.
func isConnFailure(err error) bool {
	if errors.Is(err, redis.ErrPoolTimeout) || errors.Is(err, redis.ErrClosed) || errors.Is(err, context.Canceled) {
		return false
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) {
		return true
	}
	if err == context.DeadlineExceeded { //nolint:errorlint // bare: while waiting; on the wire it is a net.Error
		return false
	}
	_, ok := errors.AsType[net.Error](err)
	return ok
}

// Code of the service runs on goroutines of the pool: the Dialer, Credentials, and the methods of a
// connection that the Dialer has made. A panic there would end the process, and a Goexit would
// leave undone what others wait for. Functions that the pool calls itself are guarded one by one.
// The rest is called by go-redis when the pool uses the client, so what the pool does with the
// client on its own goroutines is guarded as a whole.

// ownUse is what is guarded where it is not known which code of the service failed.
const ownUse = "a hook, or a connection by the Dialer"
