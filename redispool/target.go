package redispool

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"reflect"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/expiry"
	"github.com/poolkeeper/poolkeeper/internal/onfile"
	"github.com/poolkeeper/poolkeeper/internal/rotation"
	"github.com/poolkeeper/poolkeeper/internal/settings"
)

// clientKind is which of go-redis' clients a pool stands on.
type clientKind int

const (
	kindNode clientKind = iota
	kindSentinel
	kindCluster
)

// String returns "node", "sentinel" or "cluster".
func (k clientKind) String() string {
	switch k {
	case kindSentinel:
		return "sentinel"
	case kindCluster:
		return "cluster"
	case kindNode:
	}
	return "node"
}

// noWaitLimit is PoolTimeout where AcquireTimeout is off: go-redis knows no "for ever" there.
const noWaitLimit = settings.Longest

// target is where and how to connect, in go-redis' words, whichever way the user has said it.
type target struct {
	kind clientKind
	url  bool // it was said by a URL
	opts redis.UniversalOptions
	disk onfile.Contents // what the files hold
}

// targetOf chooses the kind of client as redis.NewUniversalClient does.
func targetOf(o redis.UniversalOptions) target {
	o.Addrs = append([]string(nil), o.Addrs...)
	t := target{opts: o}
	switch {
	case o.MasterName != "":
		t.kind = kindSentinel
	case len(o.Addrs) > 1 || o.IsClusterMode:
		t.kind = kindCluster
	}
	return t
}

// fill lets what the URL or Options say stand in for fields of c that are zero.
func (t target) fill(c Config) Config {
	o := t.opts
	count := func(field *int, theirs int) {
		if *field == 0 {
			*field = theirs
		}
	}
	duration := func(field *time.Duration, theirs time.Duration) {
		switch {
		case *field != 0:
		case theirs < 0:
			*field = poolkeeper.Off // go-redis' -1
		default:
			*field = theirs
		}
	}
	count(&c.MaxOpen, o.PoolSize)
	count(&c.MinIdle, o.MinIdleConns)
	duration(&c.MaxIdleTime, o.ConnMaxIdleTime)
	duration(&c.MaxLifetime, o.ConnMaxLifetime)
	duration(&c.AcquireTimeout, o.PoolTimeout)
	duration(&c.DialTimeout, o.DialTimeout)
	duration(&c.ReadTimeout, o.ReadTimeout)
	duration(&c.WriteTimeout, o.WriteTimeout)
	if c.LifetimeJitter == 0 && o.ConnMaxLifetimeJitter > 0 && o.ConnMaxLifetime > 0 {
		c.LifetimeJitter = min(float64(o.ConnMaxLifetimeJitter)/float64(o.ConnMaxLifetime), 1)
	}
	return c
}

// attempts is how often go-redis asks its pool for a connection for one command before it gives up.
func (t target) attempts() int {
	retries := func(n, otherwise int) int {
		switch n {
		case 0:
			return otherwise
		case -1:
			return 0
		default:
			return n
		}
	}
	if t.kind == kindCluster {
		return (retries(t.opts.MaxRedirects, 3) + 1) * (retries(t.opts.MaxRetries, 0) + 1)
	}
	return retries(t.opts.MaxRetries, 3) + 1
}

// universal returns go-redis' options for the pool that c (with its defaults) describes. What
// go-redis would do by itself about idle and old connections is off: it closes a stale connection
// only when a caller has already asked for one, and replaces it by a dial.
func (t target) universal(c Config) redis.UniversalOptions {
	o := t.opts
	o.PoolSize = c.MaxOpenCeiling
	o.MinIdleConns, o.MaxIdleConns, o.MaxActiveConns = 0, 0, 0
	o.ConnMaxIdleTime, o.ConnMaxLifetime, o.ConnMaxLifetimeJitter = -1, 0, 0
	o.PipelinePoolSize, o.PipelineReadBufferSize, o.PipelineWriteBufferSize = -1, 0, 0
	o.ContextTimeoutEnabled = true
	if o.MaintNotificationsConfig == nil {
		// go-redis' default is to find out whether the server sends them, which costs each client a
		// goroutine and a round trip, and races between the first connections of a Client and its
		// Conns.
		o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	}
	o.PoolTimeout = noWaitLimit
	if c.AcquireTimeout > 0 {
		o.PoolTimeout = max(c.AcquireTimeout/time.Duration(t.attempts()), time.Nanosecond)
	}
	o.DialTimeout = c.DialTimeout
	o.DialerRetries = 1 // the command is tried again as a whole; a retry here could not be ended by Stop
	o.ReadTimeout, o.WriteTimeout = orUnlimited(c.ReadTimeout), orUnlimited(c.WriteTimeout)
	return o
}

// dialAddr opens a connection.
type dialAddr = func(ctx context.Context, network, addr string) (net.Conn, error)

// endpoint is what a new connection is opened with. It is one value, so that Reload can change all of it
// at once.
type endpoint struct {
	network, addr string // of a single node; empty where sentinels or the Cluster say
	dial          dialAddr
	plain         dialAddr    // the same below TLS; nil: the Dialer of Options may speak TLS itself
	tls           *tls.Config // of dial, over plain; nil: without TLS
	credentials   func(ctx context.Context) (user, password string, err error)
	logins        rotation.Watch // what credentials has answered
	target        target         // what said so
	given         *tls.Config    // as it was given, for telling whether another one is
	book          *expiry.Book   // of its certificates
	shown         bool           // go-redis logs in by credentials, when it logs in by the options that the client shows
}

// endpoint returns it for c (with its defaults, and so with a copy of the TLS that was given).
func (t target) endpoint(c Config, given *tls.Config) *endpoint {
	o := t.opts
	a := &endpoint{dial: o.Dialer, target: t, given: given, book: new(expiry.Book)}
	if a.dial == nil {
		secure := o.TLSConfig
		if c.TLS != nil {
			secure = c.TLS
		}
		secure = t.disk.TLS(secure)
		a.plain, a.tls = dialer(c.DialTimeout), secure
		a.dial = securely(a.plain, c.DialTimeout, secure)
		a.book = expiry.New(secure, t.disk.Authorities())
	}
	if t.kind == kindNode {
		a.network, a.addr = "tcp", "127.0.0.1:6379" // go-redis' default
		if len(o.Addrs) > 0 {
			a.addr = o.Addrs[0]
		}
		if strings.HasPrefix(a.addr, "/") {
			a.network = "unix"
		}
	}
	switch {
	case c.CredentialsFile != "":
		user, password := t.disk.Login()
		user = cmp.Or(user, o.Username)
		a.credentials = func(context.Context) (string, string, error) { return user, password, nil }
	case c.Credentials != nil:
		a.credentials = func(ctx context.Context) (string, string, error) {
			user, password, err := c.Credentials(ctx)
			if err != nil {
				return "", "", fmt.Errorf("redispool: Credentials: %w", err)
			}
			return cmp.Or(user, o.Username), password, nil
		}
	case o.CredentialsProviderContext != nil:
		a.credentials = o.CredentialsProviderContext
	case o.CredentialsProvider != nil:
		a.credentials = func(context.Context) (string, string, error) {
			user, password := o.CredentialsProvider()
			return user, password, nil
		}
	default:
		a.credentials = func(context.Context) (string, string, error) { return o.Username, o.Password, nil }
	}
	return a
}

// pushes reports whether servers may send maintenance notifications.
func (t target) pushes() bool {
	m := t.opts.MaintNotificationsConfig
	return m != nil && m.Mode != maintnotifications.ModeDisabled
}

// connect opens a connection to where a leads; addr counts where a does not say.
func (a *endpoint) connect(ctx context.Context, network, addr string) (net.Conn, error) {
	if a.addr != "" {
		network, addr = a.network, a.addr
	}
	return a.dial(ctx, network, addr)
}

func orUnlimited(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}

// dialer is go-redis' default one.
func dialer(timeout time.Duration) dialAddr {
	return (&net.Dialer{
		Timeout: timeout,
		KeepAliveConfig: net.KeepAliveConfig{
			Enable: true, Idle: 30 * time.Second, Interval: 5 * time.Second, Count: 3,
		},
	}).DialContext
}

// securely adds TLS to dial, unless config is nil. As go-redis' own it takes ServerName from the
// address; other than that it obeys its context, and says when it is the handshake that failed.
func securely(dial dialAddr, timeout time.Duration, config *tls.Config) dialAddr {
	if config == nil {
		return dial
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		raw, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		own := config
		if own.ServerName == "" {
			host, _, err := net.SplitHostPort(addr)
			if err != nil {
				host = addr
			}
			own = config.Clone()
			own.ServerName = host
		}
		c := tls.Client(raw, own)
		if err := c.HandshakeContext(ctx); err != nil {
			_ = raw.Close()
			return nil, &handshakeError{err}
		}
		return c, nil
	}
}

// handshakeError is how a TLS handshake has ended.
type handshakeError struct{ err error }

func (e *handshakeError) Error() string { return "TLS handshake: " + e.err.Error() }

func (e *handshakeError) Unwrap() error { return e.err }

// HealthFault makes health.Classify know that the network's part had got through.
func (e *handshakeError) HealthFault() health.Fault {
	f := health.Classify(e.err)
	if f.Kind == health.KindTimeout {
		f.Advice = "the server accepts connections and does not answer a TLS handshake: " +
			"does this port speak TLS, or is the server frozen?"
	}
	return f
}

// shown returns the options that the native client is made with. Users read them, and make other
// clients from them: so address, dialer, TLS and login are the user's own. The pool opens the
// connections itself (opener), and they log in by themselves (login), so that Reload can change
// either.
func (p *Pool) shown() redis.UniversalOptions {
	c, t := *p.cfg, p.target
	o := t.universal(c)
	if o.Dialer == nil {
		if c.TLS != nil {
			o.TLSConfig = c.TLS
		}
		if o.TLSConfig = t.disk.TLS(o.TLSConfig); o.TLSConfig != nil {
			o.TLSConfig = o.TLSConfig.Clone()
		}
	}
	if t.kind == kindSentinel {
		o.Dialer = p.open // not shown: go-redis wraps it in one that asks the sentinels, and uses it to reach them
	}
	if c.CredentialsFile != "" && o.StreamingCredentialsProvider == nil {
		user, password := t.disk.Login()
		o.Username, o.Password = cmp.Or(user, o.Username), password
		o.CredentialsProvider, o.CredentialsProviderContext = nil, nil
	}
	return o
}

// newAim returns what new connections are opened with by t and c, if that is put in effect.
func (p *Pool) newEndpoint(t target, c Config, givenTLS *tls.Config) *endpoint {
	a := t.endpoint(c, givenTLS)
	a.shown = p.cfg.Credentials == nil && c.Credentials == nil && sameLogin(*p.target, t)
	return a
}

// sameLogin reports whether files, or else URL and Options, say the same about user and password.
func sameLogin(x, y target) bool {
	user, password := x.disk.Login()
	if u, p := y.disk.Login(); u != user || p != password {
		return false
	}
	a, b := reflect.ValueOf(x.opts), reflect.ValueOf(y.opts)
	for _, name := range []string{"Username", "Password", "CredentialsProvider", "CredentialsProviderContext"} {
		if !settings.Equal(a.FieldByName(name), b.FieldByName(name)) {
			return false
		}
	}
	return true
}

// ownOptions returns the options for a client of the pool's own, with few connections, that reaches the
// node as the pool does.
func (n *node) ownOptions() *redis.Options {
	o := *n.client.Options()
	if n.pool.target.kind != kindSentinel {
		o.Dialer = n.pool.open
	}
	if o.StreamingCredentialsProvider == nil {
		o.CredentialsProvider, o.Username, o.Password = nil, "", ""
		o.CredentialsProviderContext = n.pool.login
	}
	o.PoolSize, o.MaxConcurrentDials = checkPoolSize, 0
	o.MinIdleConns, o.PipelinePoolSize = 0, -1
	o.ReadBufferSize, o.WriteBufferSize = checkBuffer, checkBuffer
	o.MaxRetries = -1
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return &o
}

// dialNative opens a connection as the client does, without the pool's books.
func (n *node) dialNative(ctx context.Context) (net.Conn, error) {
	o := n.ownOptions()
	return o.Dialer(ctx, o.Network, o.Addr)
}
