package redispool

import (
	"cmp"
	"context"
	"crypto/tls"
	"net"
	"reflect"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/poolkeeper/poolkeeper/internal/settings"
)

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
func (p *Pool) newAim(t target, c Config, givenTLS *tls.Config) *aim {
	a := t.aim(c, givenTLS)
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
