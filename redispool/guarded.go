package redispool

import (
	"context"
	"net"
)

// Code of the service runs on goroutines of the pool: the Dialer, Credentials, hooks, and the
// methods of a connection that the Dialer has made. A panic there would end the process, and a
// Goexit would leave undone what others wait for. Functions that the pool calls itself are guarded
// one by one. The rest is called by go-redis when the pool uses the client, so what the pool does
// with the client on its own goroutines is guarded as a whole.

// ownUse is what is guarded where it is not known which code of the service failed.
const ownUse = "a hook, or a connection by the Dialer"

// connect opens a connection by a. The Dialer, and the functions of a tls.Config, are the
// service's.
func (p *Pool) connect(ctx context.Context, a *aim, network, addr string) (c net.Conn, err error) {
	err = p.events.Guarded("the Dialer", func() error {
		c, err = a.connect(ctx, network, addr)
		return err
	})
	return c, err
}

// ask asks the service for user and password.
func (p *Pool) ask(ctx context.Context, a *aim) (user, password string, err error) {
	err = p.events.Guarded("Credentials", func() error {
		user, password, err = a.credentials(ctx)
		return err
	})
	return user, password, err
}

// closeNative closes a connection that the Dialer has made.
func (c *conn) closeNative() error {
	return c.node.pool.events.Guarded("Close of a connection", c.Conn.Close)
}
