package health

import (
	"fmt"
	"sync/atomic"
)

// groupPage is the verdict on one group, with its pages. It is immutable but for pages rendered at their first use.
type groupPage struct {
	name       string
	snap       *snapshot
	status     Status
	since      int64   // clock at which status was reached
	validUntil int64   // clock after which status may be better than what is known
	members    []*seen // by name
	details    [formats]atomic.Pointer[[]byte]
}

// judge sets status and validUntil of a group of checks. skip, if not nil, leaves checks out.
func (g *groupPage) judge(skip func(name string) bool) {
	g.status, g.validUntil = g.judged(skip)
}

func (g *groupPage) judged(skip func(name string) bool) (Status, int64) {
	s := g.snap
	if g.name == GroupStartup && s.latched != never {
		return StatusPass, never
	}
	if s.phase != running || s.draining || len(s.holds) > 0 {
		return StatusFail, never
	}
	status, until := StatusPass, int64(never)
	for _, c := range g.members {
		if skip != nil && skip(c.reg.check.Name) {
			continue
		}
		switch {
		case c.verdict.status == StatusPass:
		case c.verdict.status == StatusWarn || c.reg.check.Impact == Degrading:
			status = max(status, StatusWarn)
		default:
			status = StatusFail
		}
		if c.verdict.status.OK() {
			until = min(until, c.reg.lastResult.Load()+int64(c.reg.check.MaxAge))
		}
	}
	if status == StatusFail {
		until = never // it cannot get worse with time
	}
	return status, until
}

// judgeLive sets status and validUntil of liveness: every heartbeat has to be young enough. While draining, loops end
// one by one and their silence means nothing.
func (g *groupPage) judgeLive(now int64) {
	g.status, g.validUntil = StatusPass, never
	if g.snap.draining {
		return
	}
	for _, h := range g.snap.heartbeats {
		g.validUntil = min(g.validUntil, h.expires())
	}
	if now > g.validUntil {
		g.status = StatusFail
	}
}

// reason is one line that says why the status is not pass: what an operator has to know first. Empty when it is.
func (g *groupPage) reason() string {
	s := g.snap
	switch {
	case g.status == StatusPass:
		return ""
	case g.name == GroupLive:
		for _, h := range s.heartbeats {
			if s.now > h.expires() {
				return fmt.Sprintf("%s: last beat %s, older than %v", h.name, stamp(s.wall(h.last.Load())), h.maxAge)
			}
		}
		return "a heartbeat was missed"
	case s.phase == created:
		return "not started"
	case s.phase == stopped:
		return "stopped"
	case s.draining:
		return "draining"
	case len(s.holds) > 0:
		return "held: " + s.holds[0].reason
	}
	return g.checkReason()
}
