package httpclient

import (
	"context"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/breaker"
	"github.com/poolkeeper/poolkeeper/internal/event"
	"github.com/poolkeeper/poolkeeper/internal/isolation"
)

// host is a server that requests go to: the server of BaseURL, or an entry of Hosts. Without BaseURL
// it stands for all servers.
type host struct {
	c        *Client
	addr     string                   // of Hosts; "": the request names the server
	endpoint atomic.Pointer[endpoint] // where new requests go
	breaker  *breaker.Breaker
	conns    connSet
	met      metrics

	// the following are guarded by the client's switching
	before  poolkeeper.Stats // as of the last sample
	sampled bool
}

// rotation is an immutable list of the hosts of a client.
type rotation struct {
	all      []*host                      // as configured; at least one
	turns    []*host                      // the order in which they take requests; at least one
	standing map[*host]isolation.Standing // empty for a single host
}

// addresses returns the addresses of the hosts of a configuration.
func (c Config) addresses() []string {
	if len(c.Hosts) == 0 {
		return []string{""}
	}
	return c.Hosts
}

func (c *Client) newHost(addr string) *host {
	h := &host{c: c, addr: addr}
	h.breaker = breaker.New(breaker.Config{
		Life:         c.life,
		After:        func() time.Duration { return c.config().FailFastAfter },
		Trial:        func(ctx context.Context) error { return c.ask(ctx, h.endpoint.Load()) },
		TrialTimeout: func() time.Duration { return c.config().patience() },
		Judge:        judge,
		Error: func(since time.Time, err error) *poolkeeper.DownError {
			return &poolkeeper.DownError{Pool: h.name(), Since: since, Advice: health.Classify(err).Advice, Err: err}
		},
		WentDown: h.wentDown,
		CameUp:   h.cameUp,
	})
	return h
}

// name returns the client's name. If there are several hosts, the address follows it.
func (h *host) name() string {
	if h.addr == "" {
		return h.c.state.Name()
	}
	return h.c.state.Name() + "/" + h.addr
}

// pick returns the next host and counts a request as waiting there. It skips hosts in tried, hosts
// that are down and hosts whose queue is full. It returns nil and no error if no host is left.
func (c *Client) pick(tried []*host) (*host, error) {
	r := c.rotation.Load()
	if len(r.all) == 1 {
		return c.only(r.all[0], tried)
	}
	var full *host
	n := c.turn.Add(1)
	for i := range uint64(len(r.turns) + len(r.all)) {
		h := r.all[i%uint64(len(r.all))] // as a last resort
		if i < uint64(len(r.turns)) {
			h = r.turns[(n+i)%uint64(len(r.turns))]
		}
		switch {
		case h.breaker.Down() != nil || slices.Contains(tried, h):
		case h.queue():
			return h, nil
		default:
			full = h
		}
	}
	if full != nil {
		return nil, full.tooManyWaiting()
	}
	if down := c.down(r); down != nil {
		c.refused.Add(1)
		return nil, down
	}
	return nil, nil //nolint:nilnil // see above
}

// only is pick for a client of one host.
func (c *Client) only(h *host, tried []*host) (*host, error) {
	if len(tried) > 0 && tried[0] == h {
		return nil, nil //nolint:nilnil // see pick
	}
	if down := h.breaker.Down(); down != nil {
		h.met.refused.Add(1)
		return nil, down
	}
	if !h.queue() {
		return nil, h.tooManyWaiting()
	}
	return h, nil
}

// down returns the error of requests if all hosts are known to be down, else nil.
func (c *Client) down(r *rotation) *poolkeeper.DownError {
	var last *poolkeeper.DownError
	for _, h := range r.all {
		d := h.breaker.Down()
		if d == nil {
			return nil
		}
		if last == nil || d.Since.After(last.Since) {
			last = d
		}
	}
	if len(r.all) == 1 {
		return last
	}
	return &poolkeeper.DownError{Pool: c.state.Name(), Since: last.Since, Advice: last.Advice, Err: last.Err}
}

// queue counts a request as waiting for a connection. It returns false if MaxWaiting is reached.
func (h *host) queue() bool {
	cfg, n := h.endpoint.Load().cfg, h.met.waiting.Add(1)
	if cfg.MaxWaiting == 0 || int(n+h.conns.inUse.Load()) <= cfg.MaxOpen+max(cfg.MaxWaiting, 0) {
		return true
	}
	h.met.waiting.Add(-1)
	return false
}

// wentDown ends the attempts that wait for a connection, so that they go to another host.
func (h *host) wentDown(down *poolkeeper.DownError) {
	for _, giveUp := range h.c.attempts(h) {
		giveUp(down)
	}
	h.changed(event.OfDown(down.Since, down.Err))
}

func (h *host) cameUp(down time.Duration) { h.changed(event.OfUp(down)) }

// changed emits that a host is down or back. With several hosts, the client is down only if all are.
func (h *host) changed(e event.Event) {
	c := h.c
	r := c.rotation.Load()
	if h.addr == "" || len(r.all) == 1 {
		c.events.Emit(e)
		return
	}
	c.rotate()
	member := e
	member.Kind, member.Text = event.MemberBack, "this host is back"
	if e.Kind == event.Down {
		member.Kind, member.Text = event.MemberLost, "this host is down; the others take its requests"
	}
	member.Attrs = append([]slog.Attr{slog.String("host", h.addr)}, e.Attrs...)
	c.events.Emit(member)
	if all := c.down(r) != nil; c.outage.CompareAndSwap(!all, all) {
		c.events.Emit(e)
	}
}
