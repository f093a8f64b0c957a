package redispool

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/peer"
)

//nolint:gochecknoglobals // a constant table
var redisWords = peer.Words{
	Want: peer.Redis, UseTLS: "use rediss:// in URL, or set TLS or TLSFiles",
	UsePlain: "use redis:// in URL and leave TLS and TLSFiles empty",
}

// explained is an error of a first connection, and what was found out about the server afterwards.
type explained = peer.ExplainedError[health.Fault]

// unclear reports whether err may come of a server that speaks another protocol, or TLS where the
// client does not. A server that has answered in its protocol is the right one.
func unclear(err error) bool {
	if _, answered := errors.AsType[redis.Error](err); answered || peer.Settled(err) {
		return false
	}
	switch Classify(err).Kind { //nolint:exhaustive // the rest is clear
	case health.KindTimeout, health.KindReset, health.KindProtocol, health.KindTLS, health.KindUnknown:
		return true
	default:
		return false
	}
}

// explain adds to the error of a first connection what listens at the address, if that may be
// another server than the pool expects. go-redis cannot tell: it sees a time-out, or the end of the
// connection. It opens connections of its own and blocks for 2 s at most, or until ctx ends. Of a
// Cluster and of sentinels it asks the first address. A Dialer of the service's may speak TLS
// itself, and is not asked.
func (p *Pool) explain(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil || !unclear(err) {
		return err
	}
	e := p.endpoint.Load()
	if e.plain == nil {
		return err
	}
	network, addr := e.network, e.addr
	if addr == "" {
		network, addr = "tcp", e.target.opts.Addrs[0] // faults has made sure that there is one
	}
	found := peer.Identify(ctx, func(ctx context.Context) (net.Conn, error) { return e.plain(ctx, network, addr) })
	if m, differs := redisWords.Compare(found, e.tls != nil); differs {
		f := health.Fault{Kind: health.KindProtocol, Advice: m.Advice}
		if m.TLS {
			f.Kind = health.KindTLS
		}
		return &explained{Err: err, Finding: m.Finding, Fault: f}
	}
	if found == peer.TLS {
		return p.explainTLS(ctx, e, network, addr, err)
	}
	return err
}

// explainTLS looks whether the server ends the connection because it demands another certificate of
// the client. In TLS 1.3 it does so after the handshake. A client that has written meanwhile mostly
// sees a reset instead.
func (p *Pool) explainTLS(ctx context.Context, e *endpoint, network, addr string, err error) error {
	ctx, cancel := context.WithTimeout(ctx, 2*greetingLimit)
	defer cancel()
	c, alert := p.connect(ctx, e, network, addr)
	if alert == nil {
		defer func() { _ = c.Close() }()
		_ = c.SetReadDeadline(time.Now().Add(greetingLimit))
		_, alert = c.Read(make([]byte, 1))
	}
	if f := health.Classify(alert); alert != nil && f.Kind == health.KindAuthentication {
		return &explained{Err: err, Finding: alert.Error(), Fault: f}
	}
	return err
}
