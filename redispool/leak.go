package redispool

import (
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/event"
)

// Holders lists who holds a connection now, the oldest first: each Conn from its first command
// until it is closed, each Watch from WATCH to EXEC or UNWATCH, each subscription. Plain commands
// and pipelines are not listed. It does no I/O.
func (p *Pool) Holders() []poolkeeper.Holder {
	for _, n := range p.allNodes() {
		n.rotate(p.life)
	}
	return p.held.List()
}

// reportLeaks logs holds that have outlasted LeakThreshold; each comes here once. A subscription is
// meant to be held and is no leak.
func (p *Pool) reportLeaks(late []poolkeeper.Holder) {
	now := time.Now()
	still := map[time.Time]bool{} // a Conn may have been closed, and nobody has noticed yet
	for _, h := range p.Holders() {
		still[h.Since] = true
	}
	for _, h := range late {
		if !still[h.Since] || h.Kind == poolkeeper.KindPubSub {
			continue
		}
		p.events.Emit(event.OfLeak(h, now, p.config().LeakThreshold))
		p.met.leaks.Add(1)
	}
}
