package httpclient

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/onfile"
	"github.com/poolkeeper/poolkeeper/internal/settings"
)

// Defaults of [Config]. Those of its time-outs depend on its [Class].
const (
	DefaultMaxOpen       = 100
	DefaultMaxIdleTime   = 90 * time.Second
	DefaultFailFastAfter = 3 * time.Second
	DefaultFileInterval  = 10 * time.Second
)

// Config configures a client. It is passed by value; the zero value of each field means its default.
// poolkeeper.Off is accepted where a comment says so. No duration may be longer than 100 years.
type Config struct {
	// Name is the client's name in logs, errors and metrics until SetName gives another; a Registry
	// does. Default: "http".
	Name string

	// BaseURL is the server, such as "https://billing.internal": scheme, host and port, and a path
	// that CheckPath is relative to. Requests to another host are refused, redirects included.
	// Default: any host; then there is no health check and no FailFastAfter.
	BaseURL string

	// Hosts are the addresses of equivalent servers of BaseURL, such as "10.0.0.7:443". Requests take
	// turns among them. The Host header and the name that TLS verifies stay those of BaseURL. Each
	// host has its own connections, check and FailFastAfter. Requests skip a host that is down while
	// another is up. If no connection to a host can be opened, the request goes to the next host.
	// Hosts need BaseURL and exclude Proxy; the proxy of the environment is not used. Default: the
	// host of BaseURL, by DNS.
	Hosts []string

	// Isolation takes hosts that serve worse than the others out of rotation. It scores the time to
	// the response's header, the failed requests and the connections in use. A status of 500 or above
	// is a failure. Samples are taken every tenth of After, at least every second. It needs Hosts.
	// Default: off.
	Isolation poolkeeper.Isolation

	// Class chooses the defaults of the time-outs. Default: ClassStandard.
	Class Class

	// MaxOpen is the most connections open at once to one host. A request over HTTP/2 shares its
	// connection with others and does not count. Default: DefaultMaxOpen. Bounds: 0 to 65,535.
	MaxOpen int

	// MaxIdle is the most idle connections kept to one host. Default: MaxOpen; http.DefaultClient
	// keeps 2, and dials anew for the rest. Bounds: 0 to MaxOpen.
	MaxIdle int

	// MaxWaiting is how many requests may wait for a connection beyond the MaxOpen that have one or
	// are about to: one more is refused at once, with an AcquireError that matches
	// poolkeeper.ErrTooManyWaiting. It needs BaseURL. Default: 0, no limit; NoWaiting: no request
	// waits. Bounds: NoWaiting or not negative.
	MaxWaiting int

	// MaxIdleTime is how long a connection may be idle before it is closed. Choose less than the
	// server does. Default: DefaultMaxIdleTime. Off: never.
	MaxIdleTime time.Duration

	// AcquireTimeout bounds the wait for a connection, idle or new: the queue, the dial and the TLS
	// handshake together. Off: only the other limits count.
	AcquireTimeout time.Duration

	// DialTimeout bounds opening the TCP connection, and TLSTimeout the TLS handshake. Neither can be
	// turned off.
	DialTimeout, TLSTimeout time.Duration

	// HeaderTimeout bounds the wait for the response's header, from when the request is written. Off:
	// none.
	HeaderTimeout time.Duration

	// BodyTimeout bounds each wait for more of the response's body. Time that the caller takes
	// between two reads does not count. Off: none.
	BodyTimeout time.Duration

	// RequestTimeout bounds the whole request, until its body is read and closed. Off: only the
	// request's context counts.
	RequestTimeout time.Duration

	// TLS is used for https. It is copied. Default: the system's authorities.
	TLS *tls.Config

	// TLSFiles are files that complete TLS. They are read again when they change: connections that
	// were opened before are closed once their requests end.
	TLSFiles poolkeeper.TLSFiles

	// FileInterval is how often TLSFiles are read. Default: DefaultFileInterval. Off: only
	// Reload reads them.
	FileInterval time.Duration

	// Authorize is called for each request before it is sent, to set its header: a token, say. It may
	// block, within the request's context. Its error fails the request. It gets a copy of the
	// request. It is not called for a request that a redirect sends to another server, or from https
	// to http.
	Authorize func(*http.Request) error

	// Wrap returns a RoundTripper around the client's own: tracing, retries, a log of requests. It
	// is called once, by New.
	Wrap func(http.RoundTripper) http.RoundTripper

	// DialContext opens TCP connections. Default: a net.Dialer.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)

	// Proxy returns the proxy of a request. Default: http.ProxyFromEnvironment; none with Hosts.
	Proxy func(*http.Request) (*url.URL, error)

	// FailFastAfter is how long no connection could be opened to BaseURL before requests fail at
	// once, with a poolkeeper.DownError. A trial must have failed too: a request of CheckPath, or a
	// dial. Only trials dial then, and the first that is answered lets all requests through.
	// Default: DefaultFailFastAfter, Off without BaseURL. Off: every request tries by itself.
	FailFastAfter time.Duration

	// CheckPath is requested by Check, and by Start: any answer below 500 but 401, 403, 404 and 429
	// is healthy. It is relative to BaseURL, which it needs. Default: Check opens a connection.
	CheckPath string

	// Start says what Start does while the server does not answer. Default: StartFailFast. Without
	// BaseURL, Start reaches no server.
	Start poolkeeper.StartPolicy

	// LeakThreshold is how long a response may be open before its holder is reported, once. Off:
	// never.
	LeakThreshold time.Duration

	// DisableLeakStacks saves 1 to 3 µs for each request. Then holders have no file and line.
	DisableLeakStacks bool

	// Logger gets outages, leaks and renewals. Default: slog.Default().
	Logger *slog.Logger
}

// withDefaults returns c with its defaults filled in; zero is Off from here on.
func (c Config) withDefaults() Config {
	l := c.Class.defaults()
	if c.Name == "" {
		c.Name = "http"
	}
	if c.MaxOpen == 0 {
		c.MaxOpen = DefaultMaxOpen
	}
	if c.MaxIdle == 0 {
		c.MaxIdle = c.MaxOpen
	}
	c.MaxIdleTime = settings.Or(c.MaxIdleTime, DefaultMaxIdleTime)
	c.AcquireTimeout = or(c.AcquireTimeout, l.acquire)
	c.DialTimeout = or(c.DialTimeout, l.dial)
	c.TLSTimeout = or(c.TLSTimeout, l.tls)
	c.HeaderTimeout = or(c.HeaderTimeout, l.header)
	c.BodyTimeout = or(c.BodyTimeout, l.body)
	c.RequestTimeout = or(c.RequestTimeout, l.request)
	c.LeakThreshold = or(c.LeakThreshold, l.leak)
	c.FileInterval = settings.Or(c.FileInterval, DefaultFileInterval)
	c.FailFastAfter = settings.Or(c.FailFastAfter, DefaultFailFastAfter)
	if c.BaseURL == "" {
		c.FailFastAfter = 0
	}
	if c.DialContext == nil {
		c.DialContext = (&net.Dialer{}).DialContext
	}
	if c.Proxy == nil && len(c.Hosts) == 0 {
		c.Proxy = http.ProxyFromEnvironment
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

// or is settings.Or for a default that may be Off itself.
func or(d, otherwise time.Duration) time.Duration { return max(settings.Or(d, otherwise), 0) }

// files returns the names of the files that c refers to.
func (c Config) files() onfile.Names { return onfile.Names{TLSFiles: c.TLSFiles} }
