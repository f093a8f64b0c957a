package httpclient

import (
	"log/slog"
	"slices"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/isolation"
	"github.com/poolkeeper/poolkeeper/internal/monotime"
)

// isolates reports whether hosts of c can be isolated.
func (c Config) isolates() bool { return c.Isolation.MinScore > 0 && len(c.Hosts) > 1 }

// judgeEvery returns the time between two samples of the hosts.
func (c Config) judgeEvery() time.Duration { return isolation.SampleEvery(c.Isolation) }

// grade counts a request for the host's score: a response of the server, or a failure of the server.
func (x *exchange) grade(failed bool) {
	if !x.cfg.isolates() {
		return
	}
	if m := &x.to.host.met; failed {
		m.failures.Add(1)
	} else {
		m.answer.Record(monotime.Since(x.mono))
	}
}

// reading returns the input of the score: the time to the response's header, failed requests and
// connections in use. Responses with status 500 and above are failures.
func (h *host) reading() poolkeeper.Stats {
	return poolkeeper.Stats{
		Use: h.met.answer.Snapshot(), DialErrors: h.met.failures.Load(), InUse: int(h.conns.inUse.Load()),
		Waiting: int(h.met.waiting.Load()), Max: h.endpoint.Load().cfg.MaxOpen,
	}
}

// sampleHosts takes a sample of each host and judges the hosts by it.
func (c *Client) sampleHosts() {
	now := time.Now()
	c.switching.Lock()
	for _, h := range c.rotation.Load().all {
		seen := h.reading()
		if h.sampled {
			c.scores.Observe(h, now, isolation.Between(h.before, seen))
		}
		h.before, h.sampled = seen, true
	}
	changes := c.rotateLocked(c.rotation.Load().all, now)
	c.switching.Unlock()
	c.tellChanges(changes)
}

// rotate recomputes the rotation after a host went down or came back.
func (c *Client) rotate() {
	c.switching.Lock()
	changes := c.rotateLocked(c.rotation.Load().all, time.Now())
	c.switching.Unlock()
	c.tellChanges(changes)
}

// rotateLocked judges the hosts and stores the rotation without those that are down or isolated.
func (c *Client) rotateLocked(all []*host, now time.Time) []isolation.Change[*host] {
	members, may := make([]isolation.Member[*host], len(all)), make([]*host, 0, len(all))
	for i, h := range all {
		members[i] = isolation.Member[*host]{Key: h, Fit: h.breaker.Down() == nil}
		if members[i].Fit {
			may = append(may, h)
		}
	}
	changes := c.scores.Judge(now, members)
	r := &rotation{all: all, turns: c.scores.Rotation(may), standing: make(map[*host]isolation.Standing, len(all))}
	if len(r.turns) == 0 {
		r.turns = all
	}
	for _, h := range all {
		r.standing[h] = c.scores.Standing(h)
	}
	c.rotation.Store(r)
	return changes
}

func (c *Client) tellChanges(changes []isolation.Change[*host]) {
	for _, ch := range changes {
		e := ch.Event()
		e.Attrs = append([]slog.Attr{slog.String("host", ch.Key.addr)}, e.Attrs...)
		c.events.Emit(e)
	}
}

// member returns the host as a member of the client's Stats.
func (h *host) member(r *rotation, s poolkeeper.Stats) poolkeeper.MemberStats {
	is := r.standing[h]
	m := poolkeeper.MemberStats{
		Name: h.addr, State: "ready", InRotation: slices.Contains(r.turns, h), Stats: s,
		Score: is.Score, HasScore: is.HasScore, Isolated: is.State == isolation.Isolated || is.State == isolation.Trial,
		Why: is.Why, NextTrial: is.NextTrial,
	}
	switch {
	case !s.DownSince.IsZero():
		m.State, m.InRotation = "down", false
	case m.Isolated:
		m.State = string(is.State)
	}
	return m
}
