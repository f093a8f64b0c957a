package redispool

import (
	"io"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/holders"
)

// staleError is what a command gets that was about to be written on a connection which was not
// checked when it was handed out. Nothing has been sent.
type staleError struct{}

func (staleError) Error() string { return "redispool: connection turned out to be closed before use" }

// Is makes go-redis try again.
func (staleError) Is(target error) bool { return target == io.EOF }

// writeFirst writes the first command after a checkout without a check, or the first ones of a new
// connection.
func (c *conn) writeFirst(b []byte) (int, error) {
	if c.checkout == unchecked {
		c.checkout = checked
		if c.sentenced() != stays || c.hasEnded() {
			return 0, staleError{}
		}
	}
	if !c.fresh {
		return c.write(b)
	}
	out, err := c.firstWords(b)
	if err != nil {
		return 0, err
	}
	if len(out) > 0 {
		if _, err := c.write(out); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

// firstWords returns what to send in place of b, a command that is written on a new connection. A
// handshake comes first, and logs in by the login in effect. What follows tells what the connection
// is for: a subscription is one from its SUBSCRIBE on.
func (c *conn) firstWords(b []byte) ([]byte, error) {
	if l := c.start.login; l != nil {
		out, err := l.instead(c, b)
		if err != nil || len(out) == 0 {
			return nil, err
		}
		b = out
	}
	switch name := commandName(b); {
	case isHandshake(name):
	case name == "subscribe" || name == "psubscribe" || name == "ssubscribe":
		return b, c.subscribes()
	case c.node.client.Options().OnConnect == nil:
		c.endGreeting()
	}
	return b, nil
}

// isHandshake reports whether a command may be part of go-redis' handshake.
func isHandshake(name string) bool {
	switch name {
	case "hello", "auth", "select", "readonly", "client":
		return true
	}
	return false
}

// subscribes makes the connection a subscription's.
func (c *conn) subscribes() error {
	n := c.node
	if n.pool.gate.Closed() {
		return n.pool.refusal() // a new one, or one that has lost its connection
	}
	if c.is() == forSubscription {
		return nil
	}
	holder := new(holders.Entry)
	n.pool.held.Hold(holder, poolkeeper.KindPubSub)
	n.mu.Lock()
	lost := c.gone.Load()
	if !lost {
		c.purpose.Store(uint32(forSubscription))
		c.start.holder = holder
		n.open.Add(-1)
	}
	n.mu.Unlock()
	if lost {
		n.pool.held.Release(holder)
	}
	c.endGreeting()
	return nil
}

// settle notes that the connection is the pool's for good. Its user calls it.
func (c *conn) settle() {
	c.fresh = false
	c.endGreeting()
}

// endGreeting notes that the handshake is over. A connection above MaxOpen, which Reload has
// lowered while it was dialled, serves once.
func (c *conn) endGreeting() {
	n := c.node
	if !c.start.greeting.CompareAndSwap(true, false) {
		return
	}
	settled := n.open.Load() - n.greeting.Add(-1)
	if c.is() == forPool && settled > int64(n.pool.config().MaxOpen) {
		c.condemn(reload)
	}
}
