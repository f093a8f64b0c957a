package sqlpool

import (
	"context"
	"crypto/tls"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"

	"github.com/go-sql-driver/mysql"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/expiry"
	"github.com/poolkeeper/poolkeeper/internal/guard"
	"github.com/poolkeeper/poolkeeper/internal/rotation"
	"github.com/poolkeeper/poolkeeper/internal/settings"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/dsn"
)

// MySQL is a *sql.DB of connections to MySQL or MariaDB, which are opened, watched and closed in
// order. All methods are safe for concurrent use.
type MySQL struct{ dbPool }

// NewMySQL returns a pool of connections to MySQL or MariaDB at cfg.URL. It does no I/O; as
// sql.OpenDB does, it starts one goroutine that Stop or Abort ends. Every fault of cfg is reported
// at once, with cfg.Name.
func NewMySQL(cfg MySQLConfig) (*MySQL, error) {
	p, err := newDBPool("mysql", cfg.config(), mysqlTarget)
	if err != nil {
		return nil, settings.Named("sqlpool", cfg.Name, err)
	}
	return &MySQL{p}, nil
}

// Reload replaces the configuration while the pool works. It first checks all of cfg, and returns
// every fault and every change that is not possible. If URL, TLS, Credentials or Configure differ,
// it opens and checks a connection with the new ones. Only then does it change anything. New sizes
// and times apply at once. Connections opened with old settings are replaced as they become idle,
// so that no query fails. If a check fails afterwards, the old configuration is put back. It blocks
// until then, at most until ctx ends. An empty Name keeps the old one.
func (p *MySQL) Reload(ctx context.Context, cfg MySQLConfig) error {
	return p.m.reload(ctx, cfg.config())
}

// Expiries says when the certificates expire: the client's, the server's as the last handshake has
// shown it, and the authority that has verified it, or before that those of TLSFiles.CA. Client
// certificates that a function returns are not known, and authorities of TLS.RootCAs only by a
// handshake. When a password or a token expires is not known. It does no I/O and does not block.
func (p *MySQL) Expiries() []poolkeeper.Expiry { return p.m.book().List() }

// Plan returns the changes that Reload with cfg would make. Its error joins every fault of cfg and
// every change that is not possible. It changes nothing and does not dial.
func (p *MySQL) Plan(cfg MySQLConfig) ([]poolkeeper.Change, error) { return p.m.planned(cfg.config()) }

func mysqlTarget(cfg config, on secretFiles) (driver.Connector, config, error) {
	native, parseErr := mysqlConfig(cfg, on)
	if err := errors.Join(cfg.validate(), parseErr, on.err); err != nil {
		return nil, config{}, err
	}
	if cfg.DialTimeout == 0 {
		cfg.DialTimeout = native.Timeout // timeout of URL
	}
	if err := cfg.validateTimes(); err != nil { // again, with what URL has added
		return nil, config{}, err
	}
	book := watchTLS(native, on)
	connector, err := mysql.NewConnector(native)
	if err != nil {
		return nil, config{}, fmt.Errorf("sqlpool: the driver refuses the configuration: %w", err)
	}
	return &mysqlConnector{native, connector, cfg.Credentials, book}, cfg.withDefaults("mysql"), nil
}

// watchTLS has the handshakes of native be noted. The driver shows them to nothing else.
func watchTLS(native *mysql.Config, on secretFiles) *expiry.Book {
	book := expiry.New(native.TLS, on.Authorities())
	if native.TLS == nil {
		return book
	}
	native.TLS = native.TLS.Clone()
	verify := native.TLS.VerifyConnection
	native.TLS.VerifyConnection = func(shake tls.ConnectionState) error {
		if verify != nil {
			if err := verify(shake); err != nil {
				return err
			}
		}
		book.Saw(shake)
		return nil
	}
	return book
}

// mysqlConnector is the driver's connector. If Credentials is set, it asks for user and password
// before each dial. The driver's own hook before a dial stays the user's.
type mysqlConnector struct {
	native *mysql.Config
	plain  driver.Connector
	ask    func(context.Context) (user, password string, err error) // nil: the login is that of native
	book   *expiry.Book
}

func (f *mysqlConnector) expiries() *expiry.Book { return f.book }

// Driver returns the driver's own.
func (f *mysqlConnector) Driver() driver.Driver { return f.plain.Driver() }

// Connect dials with what it is told now.
func (f *mysqlConnector) Connect(ctx context.Context) (driver.Conn, error) {
	if f.ask == nil {
		return f.plain.Connect(ctx)
	}
	user, password, err := f.ask(ctx) // a panic is one of Connect, which is guarded
	if err != nil {
		return nil, fmt.Errorf("sqlpool: Credentials: %w", err)
	}
	own := f.native.Clone()
	if user != "" {
		own.User = user
	}
	own.Passwd = password
	connector, err := mysql.NewConnector(own)
	if err != nil {
		return nil, err
	}
	if d, ok := ctx.Value(dialKey{}).(*dialing); ok {
		d.login = &rotation.Login{User: user, Password: password}
	}
	return connector.Connect(ctx)
}

// mysqlConfig turns cfg into the driver's own configuration.
func mysqlConfig(cfg config, on secretFiles) (*mysql.Config, error) {
	native, err := dsn.MySQL(cfg.URL)
	if err != nil {
		return nil, err
	}
	if cfg.Logger != nil {
		native.Logger = driverLog{cfg.Logger}
	} else {
		native.Logger = driverLog{slog.Default()}
	}
	if t := on.TLS(cfg.TLS); t != nil {
		native.TLS, native.TLSConfig = t.Clone(), ""
		serverName(native.TLS, native.Addr)
	}
	if user, password := on.Login(); password != "" {
		if user != "" {
			native.User = user
		}
		native.Passwd = password
	}
	if cfg.ConfigureMySQL != nil {
		if err := cfg.ConfigureMySQL(native); err != nil {
			return nil, fmt.Errorf("sqlpool: Configure: %w", err)
		}
	}
	recordSockets(native)
	return native, nil
}

// recordSockets makes the driver's dials known, so that Stop can cut them. The socket is not
// wrapped: the driver's own check of idle connections wants to see through it. Networks that the
// program has registered with the driver are left alone, since only the driver can dial them.
func recordSockets(c *mysql.Config) {
	dial := dialOf(c)
	if dial == nil {
		return
	}
	c.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		d, ok := ctx.Value(dialKey{}).(*dialing)
		if !ok {
			return dial(ctx, network, addr)
		}
		return d.connect(func() (net.Conn, error) { return dial(ctx, network, addr) })
	}
}

// dialOf returns how the driver opens sockets, or nil if only it can.
func dialOf(c *mysql.Config) func(ctx context.Context, network, addr string) (net.Conn, error) {
	if c.DialFunc != nil {
		return c.DialFunc
	}
	switch c.Net {
	case "", "tcp", "tcp4", "tcp6", "unix":
		return new(net.Dialer).DialContext
	default:
		return nil
	}
}

func serverName(c *tls.Config, addr string) {
	if c.ServerName != "" || c.InsecureSkipVerify {
		return
	}
	if host, _, err := net.SplitHostPort(addr); err == nil {
		c.ServerName = host
	}
}

// driverLog takes the driver's log lines, which it writes to stderr by default.
type driverLog struct{ log *slog.Logger }

// Print is called on goroutines of the driver too. The panic of a handler has nowhere to be
// reported.
func (l driverLog) Print(v ...any) {
	_ = guard.Call(func() {
		l.log.Debug("sqlpool: mysql driver", slog.String("message", strings.TrimSpace(fmt.Sprint(v...))))
	})
}
