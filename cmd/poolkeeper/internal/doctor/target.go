package doctor

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/poolkeeper/poolkeeper/redispool"
	"github.com/poolkeeper/poolkeeper/sqlpool"
)

// Kinds of a [Target].
const (
	KindRedis    = "redis"
	KindPostgres = "postgres"
	KindMySQL    = "mysql"
	KindHTTP     = "http"
	KindGRPC     = "grpc"
)

// Target is a server to ask. It prints as its name, because its URL may hold a password.
type Target struct {
	Name string // scheme, host and path of the URL, after the variable that it comes from
	Kind string

	url   string
	modes bool // the URL chooses how pgx runs queries
	local bool // the server is on this machine
}

// String returns Name.
func (t Target) String() string { return t.Name }

// hide takes the password of the URL out of an error: the server, which was sent it, may repeat it.
func (t Target) hide(text string) string {
	const short = 4 // a shorter one would take words apart
	u, err := url.Parse(t.url)
	if err != nil || u.User == nil {
		return text
	}
	if password, _ := u.User.Password(); len(password) >= short {
		text = strings.ReplaceAll(text, password, "***")
	}
	return text
}

// Format prints the name, whatever the verb: the URL may hold a password.
func (t Target) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, t.Name) }

// Parse reads a URL. from says where it comes from, for errors: "argument 1", "DATABASE_URL". An
// error never has a part of the URL in it.
func Parse(from, text string) (Target, error) {
	scheme, _, isURL := strings.Cut(text, "://")
	if !isURL {
		return Target{}, fmt.Errorf("%s is not a URL; it must begin with %s", from, schemes)
	}
	t := Target{url: text}
	switch scheme {
	case "redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster":
		t.Kind = KindRedis
	case "postgres", "postgresql":
		t.Kind = KindPostgres
	case "mysql", "mariadb":
		t.Kind = KindMySQL
	case "http", "https":
		t.Kind = KindHTTP
	case "grpc", "grpcs":
		t.Kind = KindGRPC
	default:
		return Target{}, fmt.Errorf("%s has an unknown scheme; it must begin with %s", from, schemes)
	}
	u, err := url.Parse(text)
	if err != nil { // its text would hold the URL
		return Target{}, fmt.Errorf("%s cannot be parsed; are reserved characters of the password percent-encoded?", from)
	}
	t.Name = (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
	t.modes = u.Query().Has("default_query_exec_mode")
	host := u.Hostname()
	if host == "" && (t.Kind == KindHTTP || t.Kind == KindGRPC) {
		return Target{}, fmt.Errorf("%s names no host; it must be like %s://host:port", from, scheme)
	}
	t.local = scheme == "unix" || host == "" || host == "localhost" || strings.HasPrefix(host, "127.") || host == "::1"
	return t, nil
}

const schemes = "redis://, rediss://, unix://, redis+sentinel://, redis+cluster://, postgres://, mysql://, http://, https://, grpc:// or grpcs://"

// validate returns the faults that the pool finds in the URL and the options. Errors have no part of
// the URL in them.
func (t Target) validate(o Options) error {
	switch t.Kind {
	case KindRedis:
		return o.redis(t).Validate()
	case KindPostgres:
		p, err := sqlpool.NewPostgres(o.postgres(t))
		if err != nil {
			return err
		}
		return p.Abort()
	case KindMySQL:
		p, err := sqlpool.NewMySQL(o.mysql(t))
		if err != nil {
			return err
		}
		return p.Abort()
	case KindHTTP, KindGRPC:
		return new(endpoint).tlsConfigOf(o.TLSFiles, "")
	default:
		return errors.New("unknown kind")
	}
}

func (o Options) redis(t Target) redispool.Config {
	return redispool.Config{
		Name: t.Name, URL: t.url, MaxOpen: o.MaxOpen, Instances: o.Instances, KeepAlive: o.KeepAlive,
		DialTimeout: o.dialTimeout(), ReadTimeout: o.dialTimeout(), TLSFiles: o.TLSFiles, Logger: quiet(),
	}
}

func (o Options) postgres(t Target) sqlpool.PostgresConfig {
	return sqlpool.PostgresConfig{
		Name: t.Name, URL: t.url, MaxOpen: o.MaxOpen, Instances: o.Instances, KeepAlive: o.KeepAlive,
		DialTimeout: o.dialTimeout(), TLSFiles: o.TLSFiles, Logger: quiet(),
	}
}

func (o Options) mysql(t Target) sqlpool.MySQLConfig {
	return sqlpool.MySQLConfig{
		Name: t.Name, URL: t.url, MaxOpen: o.MaxOpen, Instances: o.Instances, KeepAlive: o.KeepAlive,
		DialTimeout: o.dialTimeout(), TLSFiles: o.TLSFiles, Logger: quiet(),
	}
}
