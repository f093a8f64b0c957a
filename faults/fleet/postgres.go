package fleet

import (
	"context"
	"net"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/poolkeeper/poolkeeper/sqlpool"
	"github.com/poolkeeper/poolkeeper/sqlpool/sqlpooltest"
)

// through makes a pool of pgx log in to s, and then talk to answers.
func (s *Server) through(answers *sqlpooltest.PostgresServer, cfg *sqlpool.PostgresConfig) {
	cfg.URL = answers.URL()
	cfg.Configure = func(native *pgxpool.Config) error {
		native.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
			sock, err := answers.Dial(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			one, err := s.login(ctx, func() { _ = sock.Close() })
			if err != nil {
				_ = sock.Close()
				return nil, err
			}
			return &socket{sock, one}, nil
		}
		return nil
	}
}

// socket is the connection of a session.
type socket struct {
	net.Conn

	session *session
}

// Close ends the session, which closes the connection.
func (c *socket) Close() error {
	c.session.end()
	return nil
}
