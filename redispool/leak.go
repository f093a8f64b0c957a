package redispool

import (
	"context"
	"log/slog"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/holders"
)

// Holders lists who holds a connection now, the oldest first: each Conn from its first command until it is closed, each
// Watch from WATCH to EXEC or UNWATCH, each subscription. Plain commands and pipelines are not listed. It does no I/O.
func (p *Pool) Holders() []poolkeeper.Holder {
	for _, n := range p.allNodes() {
		n.rotate(p.life)
	}
	return p.held.List()
}

// reportLeaks logs holds that have outlasted LeakThreshold; each comes here once. A subscription is meant to be held,
// so it is mentioned, but is no leak.
func (p *Pool) reportLeaks(late []poolkeeper.Holder) {
	now := time.Now()
	still := map[time.Time]bool{} // a Conn may have been closed, and nobody has noticed yet
	for _, h := range p.Holders() {
		still[h.Since] = true
	}
	for _, h := range late {
		if !still[h.Since] {
			continue
		}
		level, text := slog.LevelWarn, "redispool: a connection is held for too long; is a Close missing?"
		if h.Kind == poolkeeper.KindPubSub {
			level, text = slog.LevelInfo, "redispool: a subscription has a connection of its own"
		} else {
			p.met.leaks.Add(1)
		}
		p.logger().LogAttrs(context.Background(), level, text, //nolint:forbidigo // a timer's goroutine has no caller
			slog.String("pool", p.poolName()), slog.String("kind", h.Kind),
			slog.Duration("held", now.Sub(h.Since).Round(time.Millisecond)), slog.Duration("threshold", p.config().LeakThreshold),
			slog.String("by", holders.Site(h.Stack)), slog.String("stack", h.Stack))
	}
}
