// Package dsn reads the addresses of servers, as URLs and in the drivers' own forms, without ever
// repeating a password.
//
//	mysql://…, user:password@tcp(…)/… ──▶ MySQL ──▶ *mysql.Config
//	postgres://…?pool_max_conns=…     ──▶ PostgresParams ──▶ what pgxpool would take for itself
//
// An error says what is wrong only where that cannot be a part of a password (INV-12). The package
// dials nothing.
package dsn

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// MySQL reads the driver's DSN, "user:password@tcp(host:3306)/database?parseTime=true", or a
// URL, "mysql://user:password@host:3306/database?parseTime=true" ("mariadb://" too), in which
// reserved characters of user and password are percent-encoded and the query holds the same
// parameters. An error never has the text in it.
func MySQL(text string) (*mysql.Config, error) {
	if text == "" {
		return nil, errors.New("sqlpool: URL is empty; it must be a mysql:// URL or a DSN of go-sql-driver/mysql")
	}
	scheme, _, isURL := strings.Cut(text, "://")
	if !isURL || strings.ContainsAny(scheme, ":@/(") {
		c, err := mysql.ParseDSN(text)
		if err != nil {
			return nil, errors.New("sqlpool: URL is not a DSN of go-sql-driver/mysql: " + dsnFault(text, err))
		}
		if strings.Contains(c.Net, ":") { // the driver would repeat it at every dial
			return nil, errors.New("sqlpool: URL is not a DSN of go-sql-driver/mysql: " + notShown)
		}
		return c, nil
	}
	if scheme != "mysql" && scheme != "mariadb" {
		return nil, fmt.Errorf("sqlpool: URL has the scheme %q; NewMySQL takes mysql:// and mariadb://", scheme)
	}
	if host := text[strings.LastIndexByte(text, '@')+1:]; driversOwn.MatchString(strings.TrimPrefix(host, scheme+"://")) {
		return nil, errors.New("sqlpool: URL has a protocol in brackets where a host is; " +
			"give a URL like mysql://user:password@host:3306/database, or a DSN like user:password@unix(/path)/database, without mysql://")
	}
	u, err := url.Parse(text)
	if err != nil { // its text would hold the URL, and so the password
		return nil, errors.New("sqlpool: URL cannot be parsed; are reserved characters of the password percent-encoded?")
	}
	return mysqlOfURL(u)
}

// driversOwn is how an address begins in the driver's own syntax: unix(/path), tcp(host:3306).
var driversOwn = regexp.MustCompile(`^[a-z][a-z0-9+_-]*\(`)

// dsnFault says what the driver has against a DSN, unless it may quote a part of the password: what
// is not understood is repeated by the driver, whatever it was meant to be.
func dsnFault(dsn string, err error) string {
	if strings.HasPrefix(err.Error(), "invalid DSN: ") { // the driver's own words only
		return err.Error()
	}
	_, options, _ := strings.Cut(dsn[strings.LastIndexByte(dsn, '/')+1:], "?")
	if _, fault := mysql.ParseDSN("/?" + options); fault != nil && !strings.Contains(options, "@") {
		return fault.Error() // about the parameters
	}
	return notShown
}

const notShown = "it must be user:password@tcp(host:3306)/database?parameter=value; " +
	"what is wrong is not shown, because it may be a part of the password"

func mysqlOfURL(u *url.URL) (*mysql.Config, error) {
	// The driver knows its parameters and defaults; user, password and database are put in
	// afterwards, because its own syntax has no escape for them.
	dsn := "/"
	if host := u.Hostname(); host != "" {
		port := u.Port()
		if port == "" {
			port = "3306"
		}
		dsn = "tcp(" + net.JoinHostPort(host, port) + ")/"
	}
	if u.RawQuery != "" {
		dsn += "?" + u.RawQuery
	}
	c, err := mysql.ParseDSN(dsn)
	if err != nil {
		return nil, errors.New("sqlpool: parameters of URL: " + dsnFault(dsn, err))
	}
	c.User = u.User.Username()
	c.Passwd, _ = u.User.Password()
	c.DBName = strings.TrimPrefix(u.Path, "/")
	return c, nil
}

// NotShown is pgx's error without the URL: what pgx takes for the password in a text that it
// cannot parse need not be all of it (INV-12).
func NotShown(err error) error {
	e, ok := errors.AsType[*pgconn.ParseConfigError](err)
	if !ok {
		return fmt.Errorf("sqlpool: URL: %w", err)
	}
	text, why := e.Error(), "it cannot be parsed"
	if end := strings.LastIndex(text, "`: "); end >= 0 {
		why = text[end+len("`: "):]
	}
	if cause := e.Unwrap(); cause != nil && !strings.Contains(why, cause.Error()) {
		why = "it cannot be parsed"
	}
	return fmt.Errorf("sqlpool: URL, which is not shown because it may hold a password: %s", why)
}

// PostgresParams returns the parameters of a URL of PostgreSQL that pgx does not know itself.
func PostgresParams(url string) (*Params, error) {
	plain, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, NotShown(err)
	}
	return &Params{values: plain.RuntimeParams}, nil
}

// Params reads parameters of a URL into fields that are zero.
type Params struct {
	values map[string]string
	errs   []error
}

// Number reads a number.
func (p *Params) Number(field *int, key string) {
	s, ok := p.values[key]
	if !ok || *field != 0 {
		return
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		p.errs = append(p.errs, fmt.Errorf("sqlpool: %s of URL is not a number", key))
	}
	*field = n
}

// Span reads a duration.
func (p *Params) Span(field *time.Duration, key string) {
	s, ok := p.values[key]
	if !ok || *field != 0 {
		return
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		p.errs = append(p.errs, fmt.Errorf("sqlpool: %s of URL is not a duration", key))
	}
	*field = d
}

// Err returns what could not be read, joined, or nil.
func (p *Params) Err() error { return errors.Join(p.errs...) }
