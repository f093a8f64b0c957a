package redispool

import (
	"context"
	"fmt"
	"net"
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/handshake"
)

// Answer is the result of Ask.
type Answer struct {
	poolkeeper.ServerInfo

	// Limits compares the server's limits with the demand of the configuration. It has the demand
	// alone if the server did not answer.
	Limits Limits
}

// Ask reports version, latency, limits and certificates of the server at cfg.URL. It needs no running
// pool: it opens a connection as a pool with cfg would, and closes it. To explain a failure it opens a
// few more. It blocks until the server has answered, at most for DialTimeout, ReadTimeout and some
// 4 s, or until ctx ends. On a Cluster, Limits describes the node that grants least, and all else a
// node that answered.
//
// If the server cannot be reached or refuses the login, Ask returns an error that Classify knows, and
// the part of the Answer that it found out before. A command that the user may not run is no error:
// LeftOut names it.
func Ask(ctx context.Context, cfg Config) (Answer, error) {
	p, err := New(cfg)
	if err != nil {
		return Answer{}, err
	}
	defer func() { _ = p.Abort() }() //nolint:contextcheck // takes none; nothing is open that it could fail to close
	w := new(handshake.Watch)
	p.watchDials(w)
	var a Answer
	err = p.inform(ctx, w, &a.ServerInfo)
	w.Failed(err)
	w.Report(&a.ServerInfo, a.Latency.PingP50)
	if err != nil {
		a.Limits.judge(p.config(), false)
		return a, fmt.Errorf("redispool: ask %q: %w", p.poolName(), asFault(p.explain(ctx, err)))
	}
	if a.Limits, err = p.Limits(ctx); err != nil {
		a.Limits.judge(p.config(), false)
		a.LeftOut = append(a.LeftOut, fmt.Sprintf("limits: %v", err))
	}
	a.LeftOut = append(a.LeftOut, a.Limits.LeftOut...)
	return a, nil
}

// watchDials has w watch the connections that the pool opens.
func (p *Pool) watchDials(w *handshake.Watch) {
	e := p.newEndpoint(*p.target, *p.cfg, p.endpoint.Load().given)
	if e.plain == nil {
		e.dial = p.butSentinels(e.dial, w.Dial(e.dial))
	} else {
		e.dial = securely(p.butSentinels(e.plain, w.Dial(e.plain)), p.cfg.DialTimeout, w.Config(e.tls))
	}
	p.endpoint.Store(e)
}

// butSentinels returns watched, but plain for connections to the sentinels.
func (p *Pool) butSentinels(plain, watched dialAddr) dialAddr {
	if p.target.kind != kindSentinel {
		return watched
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if slices.Contains(p.target.opts.Addrs, addr) {
			return plain(ctx, network, addr)
		}
		return watched(ctx, network, addr)
	}
}

// inform asks the server for a sign of life, and then the rest on the same connection.
func (p *Pool) inform(ctx context.Context, w *handshake.Watch, out *poolkeeper.ServerInfo) error {
	ctx, cancel := context.WithTimeout(ctx, p.patience()+handshake.PingsLimit)
	defer cancel()
	reservation, err := p.checker.check(ctx)
	if err == nil && p.target.kind != kindCluster {
		err = reservation // a full server has no place for a pool either
	}
	if err != nil {
		return err
	}
	w.Ready()
	if reservation != nil {
		out.LeftOut = append(out.LeftOut, reservation.Error())
	}
	for _, n := range p.liveNodes(ctx) { // one that does not answer is named by the reservation
		if err = p.describe(ctx, n, out); err == nil {
			return nil
		}
	}
	return err
}

// describe asks one node.
func (p *Pool) describe(ctx context.Context, n *node, out *poolkeeper.ServerInfo) error {
	own, done, err := p.checker.use(ctx, n)
	if err != nil {
		return err
	}
	defer done()
	ping := func(ctx context.Context) error { return allowed(ctx, own, own.Ping(ctx).Err()) }
	if err := handshake.Pings(ctx, &out.Latency, ping); err != nil {
		return err
	}
	describeServer(ctx, own, out)
	return nil
}

// describeServer asks for version and settings, as far as the user may.
func describeServer(ctx context.Context, own *redis.Client, out *poolkeeper.ServerInfo) {
	info, err := own.InfoMap(ctx, "server").Result()
	if err != nil {
		out.LeftOut = append(out.LeftOut, fmt.Sprintf("INFO server: %v", err))
	}
	server := info["Server"]
	for _, known := range [...]struct{ name, key string }{ // forks that report a version of Redis beside their own
		{"Valkey", "valkey_version"}, {"Dragonfly", "dragonfly_version"}, {"Redis", "redis_version"},
	} {
		if v := server[known.key]; v != "" {
			out.Server, out.Version = known.name, v
			break
		}
	}
	for _, name := range [...]string{"maxclients", "timeout", "tcp-keepalive"} {
		got, err := own.ConfigGet(ctx, name).Result()
		if err != nil {
			return // Limits says so
		}
		if v, ok := got[name]; ok {
			if out.Settings == nil {
				out.Settings = map[string]string{}
			}
			out.Settings[name] = v
		}
	}
}
