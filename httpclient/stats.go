package httpclient

import (
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/histogram"
	"github.com/poolkeeper/poolkeeper/internal/latest"
	"github.com/poolkeeper/poolkeeper/internal/sum"
)

// metrics are the counters of one host.
type metrics struct {
	waiting, dialing, waited                                      atomic.Int64
	acquired, reused, refused, acquireTimeouts, dials, dialErrors atomic.Uint64
	waits, unread                                                 atomic.Uint64
	failures                                                      atomic.Uint64      // for the score; counted only with Isolation
	answer                                                        histogram.Recorder // time to the response's header, the same
	wait, use, dial                                               histogram.Recorder
	dialError                                                     latest.DialError
}

func (m *metrics) dialFailed(err error) {
	m.dialErrors.Add(1)
	m.dialError.Note(err)
}

// Stats returns a snapshot of the client: the sums over its hosts. With BaseURL, Max is MaxOpen times
// the number of hosts. Without BaseURL it is 0, because the number of hosts is not known. Wait has
// every request. WaitCount has the requests that dialled, or waited for 1 ms or longer. Use is the time
// from a request until its response is read to the end. Members are the Hosts. DownSince is set if all
// hosts are down. Stats does no I/O.
func (c *Client) Stats() poolkeeper.Stats {
	r := c.rotation.Load()
	c.mu.Lock()
	s, former := c.past, c.former
	s.Evicted = maps.Clone(s.Evicted)
	s.Wait.Buckets, s.Use.Buckets, s.Dial.Buckets = slices.Clone(s.Wait.Buckets), slices.Clone(s.Use.Buckets), slices.Clone(s.Dial.Buckets)
	c.mu.Unlock()
	for _, h := range r.all {
		own := h.stats()
		sum.Add(&s, &own)
		if h.addr != "" {
			s.Members = append(s.Members, h.member(r, own))
		}
	}
	for _, h := range former {
		own := h.stats()
		own.Max = 0
		sum.Add(&s, &own)
	}
	s.Generation, s.OldestHold = c.generation.Load(), c.held.OldestHold(time.Now(), "")
	s.Leaks = c.leaks.Load()
	s.Refused += c.refused.Load()
	if down := c.down(r); down != nil {
		s.DownSince = down.Since
	}
	return s
}

// stats returns one moment of the host.
func (h *host) stats() poolkeeper.Stats {
	m := &h.met
	s := poolkeeper.Stats{
		Open: h.conns.len(), InUse: int(h.conns.inUse.Load()), Dialing: int(m.dialing.Load()), Waiting: int(m.waiting.Load()),
		Dials: m.dials.Load(), DialErrors: m.dialErrors.Load(), Acquired: m.acquired.Load(), Reused: m.reused.Load(),
		AcquireTimeouts: m.acquireTimeouts.Load(), Refused: m.refused.Load(), Unread: m.unread.Load(),
		Evicted: map[string]uint64{poolkeeper.EvictedLifetime: 0, poolkeeper.EvictedFailover: 0},
		Wait:    m.wait.Snapshot(), Use: m.use.Snapshot(), Dial: m.dial.Snapshot(),
	}
	s.Idle = max(s.Open-s.InUse, 0)
	s.WaitCount, s.WaitDuration = m.waits.Load(), time.Duration(m.waited.Load())
	if e := h.endpoint.Load(); e.base != nil {
		s.Max = e.cfg.MaxOpen
	}
	if down := h.breaker.Down(); down != nil {
		s.DownSince = down.Since
	}
	m.dialError.Report(&s)
	for i, reason := range reasons {
		s.Evicted[reason] = h.conns.closed[i].Load()
	}
	return s
}
