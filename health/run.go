package health

import (
	"context"
	"runtime/debug"
)

// run is one goroutine in a probe.
type run struct {
	name    string
	lane    int
	started int64
	cancel  context.CancelFunc
	removed int64         // clock at which its check was removed; guarded by Monitor.mu
	overdue bool          // its verdict was given without it; what it returns is dropped. Guarded by Monitor.mu.
	done    chan struct{} // closed when the goroutine is out of the probe
}

// probe runs r's probe once and hands in what came of it, however it ends.
func (m *Monitor) probe(ctx context.Context, r *Registration, rn *run) {
	defer rn.cancel()
	var res result
	returned := false
	defer func() { //nolint:contextcheck // the runs that finish starts are not part of this one
		if v := recover(); v != nil {
			res = resultOf(newPanicError(v, debug.Stack()))
		} else if !returned {
			res = resultOf(errGoexit)
		}
		m.finish(r, rn, res)
	}()
	err := r.check.Probe(ctx)
	// Error texts are made here, not under the monitor's lock: an Error method is code of the
	// service and may hang or panic.
	if m.now()-rn.started >= int64(r.check.Timeout) {
		res = timedOut(r.check.Timeout, err)
	} else {
		res = resultOf(err)
	}
	returned = true
}

// finish takes the result of a run, unless it comes too late to count.
func (m *Monitor) finish(r *Registration, rn *run, res result) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	delete(m.sched.runs, rn)
	delete(m.sched.probed, rn.name)
	close(rn.done)
	if r.run == rn {
		r.run = nil
	}
	if !rn.overdue {
		m.sched.lanes[rn.lane].free++
	}
	if m.phase != running {
		return
	}
	changed := false
	switch {
	case r.removed:
		if heir := m.checkLocked(rn.name); heir != nil && heir.index >= 0 {
			if changed = m.unhangLocked(heir, now); !changed {
				m.scheduleLocked(heir, min(heir.next, now))
			}
		}
	case rn.overdue:
		changed = m.unhangLocked(r, now)
	default:
		r.slow = res.late
		changed = m.recordLocked(r, res, now, now)
		m.planLocked(r, now)
	}
	m.settleLocked(now, changed)
}

// unhangLocked lets a check run again soon whose last run came back too late to count, unless it
// has failed and backs off.
func (m *Monitor) unhangLocked(r *Registration, now int64) (changed bool) {
	if r.verdict.hungSince != 0 {
		v := *r.verdict
		v.hungSince = 0
		r.verdict = &v
		changed = true
	} else if !r.state.undecided() {
		return false
	}
	m.scheduleLocked(r, min(r.next, max(now, later(r.started, r.check.RetryInterval))))
	return changed
}

// recordLocked takes one result that was true at clock at, and reports whether the verdict changed.
func (m *Monitor) recordLocked(r *Registration, res result, at, now int64) (changed bool) {
	wasStale := r.verdict.status.OK() && r.isStale(now)
	r.state = r.state.next(res.outcome, r.check.FailureThreshold, r.check.SuccessThreshold)
	r.lastResult.Store(max(at, r.lastResult.Load()))
	r.failing.Store(r.state.status == StatusFail)
	if r.state.failures == 1 {
		r.failedFirst = at
	}
	if res.outcome == failed && r.state.status == StatusFail {
		r.backoff++
	} else {
		r.backoff = 0
	}
	v := *r.verdict
	if r.state.status != v.status || wasStale {
		v.status, v.since = r.state.status, now
	}
	if r.state.status == statusOf(res.outcome) { // else the result did not decide, and the old reason stands
		v.reason = res.reason
	}
	v.hungSince = res.hungSince
	if v.same(r.verdict) {
		return false
	}
	r.verdict = &v
	return true
}
