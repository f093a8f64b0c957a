package socket

import (
	"context"
	"net"
	"syscall"
)

// connKey is the context key of a request's connection.
type connKey struct{}

// WithConn returns a context in which Of finds c.
func WithConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// Of returns the connection that WithConn has put into a context, or nil.
func Of(ctx context.Context) net.Conn {
	c, _ := ctx.Value(connKey{}).(net.Conn)
	return c
}

// rawOf returns the socket below c and below TLS, or nil if c does not expose it.
func rawOf(c net.Conn) syscall.RawConn {
	if secure, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = secure.NetConn()
	}
	has, ok := c.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := has.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}
