package httpclient

import (
	"sync/atomic"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/histogram"
	"github.com/poolkeeper/poolkeeper/internal/latest"
)

// metrics are the counters of one client.
type metrics struct {
	waiting, dialing, waited                                             atomic.Int64
	acquired, reused, refused, acquireTimeouts, dials, dialErrors, leaks atomic.Uint64
	waits, unread                                                        atomic.Uint64
	generation                                                           atomic.Uint64
	wait, use, dial                                                      histogram.Recorder
	dialError                                                            latest.DialError
}

func (m *metrics) dialFailed(err error) {
	m.dialErrors.Add(1)
	m.dialError.Note(err)
}

// Stats returns one moment of the client. With BaseURL, Max is MaxOpen. Without BaseURL it is 0,
// because MaxOpen counts for each host. Wait has every request. WaitCount has the requests that
// dialled, or waited for 1 ms or longer. Use is the time from a request until its response is read to
// the end. Stats does no I/O.
func (c *Client) Stats() poolkeeper.Stats {
	m := &c.met
	s := poolkeeper.Stats{
		Open: c.conns.len(), InUse: int(c.conns.inUse.Load()), Dialing: int(m.dialing.Load()), Waiting: int(m.waiting.Load()),
		OldestHold: c.held.OldestHold(time.Now(), ""), Generation: m.generation.Load(),
		Dials: m.dials.Load(), DialErrors: m.dialErrors.Load(), Acquired: m.acquired.Load(), Reused: m.reused.Load(),
		AcquireTimeouts: m.acquireTimeouts.Load(), Refused: m.refused.Load(), Leaks: m.leaks.Load(), Unread: m.unread.Load(),
		Evicted: map[string]uint64{poolkeeper.EvictedLifetime: 0, poolkeeper.EvictedFailover: 0},
		Wait:    m.wait.Snapshot(), Use: m.use.Snapshot(), Dial: m.dial.Snapshot(),
	}
	s.Idle = max(s.Open-s.InUse, 0)
	s.WaitCount, s.WaitDuration = m.waits.Load(), time.Duration(m.waited.Load())
	if c.endpoint.Load().base != nil {
		s.Max = c.config().MaxOpen
	}
	if down := c.breaker.Down(); down != nil {
		s.DownSince = down.Since
	}
	m.dialError.Report(&s)
	for i, reason := range reasons {
		s.Evicted[reason] = c.conns.closed[i].Load()
	}
	return s
}
