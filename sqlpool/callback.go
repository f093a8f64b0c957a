package sqlpool

import (
	"context"
	"fmt"
	"net"

	"github.com/poolkeeper/poolkeeper/internal/guard"
	"github.com/poolkeeper/poolkeeper/internal/rotation"
)

// callback runs a function of the user's on a goroutine that is not the caller's. A panic there
// would end the process, and a Goexit lose a connection's place for ever: both become an error and
// a line in the log.
func (c *base) callback(name string, f func()) error {
	return c.events.Panicked(name, guard.Call(f))
}

// askLogin asks the service for user and password.
func (c *base) askLogin(ctx context.Context, f func(context.Context) (user, password string, err error)) (login rotation.Login, err error) {
	err = c.events.Guarded("Credentials", func() error {
		if login.User, login.Password, err = f(ctx); err != nil {
			return fmt.Errorf("sqlpool: Credentials: %w", err)
		}
		return nil
	})
	return login, err
}

// cut closes a socket that the service's DialFunc may have made.
func (c *base) cut(sock net.Conn) { _ = c.guarded("Close of a socket", sock.Close) }
