package redispool

import (
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/event"
)

// Holders lists the current holders of connections, the oldest first. A Conn holds one from its
// first command until it is closed. A Watch holds one from WATCH to EXEC or UNWATCH. A subscription
// holds one from its dial until it is closed. Plain commands and pipelines are not listed. Holders
// does no I/O.
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
	still := map[time.Time]bool{} // a Conn may have been closed, and the pool has not noticed yet
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
