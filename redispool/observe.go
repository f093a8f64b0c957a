package redispool

import (
	"context"
	"errors"
	"io"
	"net"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
)

// ObserveWith makes the pool report failures of connections to o as they happen. It also reports
// the first success after a failure. It may be called again; nil turns it off. The Registry calls
// it.
func (p *Pool) ObserveWith(o poolkeeper.Observer) { p.observer.Set(o) }

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
