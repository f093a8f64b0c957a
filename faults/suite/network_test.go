package suite_test

import (
	"fmt"
	"testing"
	"time"
)

// network are faults on the way to the server, which is well.
func network() []scenario {
	return []scenario{
		{
			name:  "all connections reset",
			fault: func(p *place) { p.proxy.Reset() },
		},
		{
			name: "refused for 2 s, after a reset",
			fault: func(p *place) {
				p.proxy.Refuse(p, true)
				p.proxy.Reset()
				sleep(p.span(2 * time.Second))
				p.proxy.Refuse(p, false)
			},
			worse: callersWait(),
		},
		blackHole(500 * time.Millisecond),
		blackHole(100 * time.Millisecond),
		blackHole(0),
		vanish(500 * time.Millisecond),
		vanish(0),
		{
			name:  "half-open: another machine, which resets what it does not know",
			fault: func(p *place) { p.proxy.ReplaceMachine() },
		},
		{
			name: "logins without an answer for 3 s, after a reset",
			fault: func(p *place) {
				p.proxy.Mute(true)
				p.proxy.Reset()
				sleep(p.span(3 * time.Second))
				p.proxy.Mute(false)
			},
		},
		{
			name: "logins that stop half way for 3 s, after a reset", long: true,
			fault: func(p *place) {
				p.proxy.StallAfter(1 + p.chance.IntN(3))
				p.proxy.Reset()
				sleep(p.span(3 * time.Second))
				p.proxy.StallAfter(0)
			},
		},
		{
			name: "one byte at a time for 3 s", callers: limited(10 * usual), // so that a slow machine fails none
			fault: func(p *place) {
				p.proxy.Trickle(true)
				sleep(p.span(3 * time.Second))
				p.proxy.Trickle(false)
			},
			check: noneFails,
		},
		{
			name:  "all connections cut within an answer",
			fault: func(p *place) { p.proxy.CutAfter(1 + p.chance.IntN(3)) },
		},
		{
			name: "the name leads elsewhere, the old server is silent", spare: true,
			fault: func(p *place) { p.proxy.BlackHole(); p.moveTo(p.second) },
			check: oneEach,
		},
		{
			name: "the name leads elsewhere after 2 s, the old server refuses", spare: true,
			fault: func(p *place) {
				p.proxy.Refuse(p, true)
				p.proxy.Reset()
				sleep(p.span(2 * time.Second))
				p.moveTo(p.second)
				p.proxy.Refuse(p, false)
			},
			worse: callersWait(),
		},
	}
}

// callersWait is why calls of a managed Redis pool take their time to fail while the server refuses.
func callersWait() map[string]string {
	return map[string]string{"lost per caller": "while the server refuses, calls wait for it up to 400 ms, and so fewer fail"}
}

// blackHole loses the connections that there are. New ones work.
func blackHole(deadline time.Duration) scenario {
	s := scenario{
		name: "old connections lost without a sign" + within(deadline), callers: limited(deadline), long: deadline != usual,
		fault: func(p *place) { p.proxy.BlackHole() },
	}
	if deadline != 100*time.Millisecond { // a slow machine fails such calls by itself
		s.check = oneEach
	}
	if deadline == 0 {
		s.after = 10 * time.Second
	}
	return s
}

// vanish loses all connections for 3 s, and those that there are for good.
func vanish(deadline time.Duration) scenario {
	s := scenario{
		name: "nothing comes through for 3 s" + within(deadline), callers: limited(deadline), long: deadline != usual,
		fault: func(p *place) {
			p.proxy.Mute(true)
			p.proxy.BlackHole()
			sleep(p.span(3 * time.Second))
			p.proxy.Mute(false)
		},
	}
	if deadline == 0 {
		s.after = 10 * time.Second
	}
	return s
}

// latencies are a network that gets long, and short again. A call of an SQL driver takes up to three
// round trips.
func latencies() []scenario {
	var out []scenario
	for _, deadline := range []time.Duration{100 * time.Millisecond, 200 * time.Millisecond, time.Second, 0} {
		s := latency(200*time.Millisecond, 3*time.Second, deadline)
		s.long = deadline != time.Second
		out = append(out, s)
	}
	for _, deadline := range []time.Duration{usual, 5 * time.Second, 20 * time.Second, 0} {
		out = append(out, latency(5*time.Second, 12*time.Second, deadline))
	}
	return out
}

func latency(roundTrip, lasting, deadline time.Duration) scenario {
	return scenario{
		name:    fmt.Sprintf("%s of latency for %s", roundTrip, lasting) + within(deadline),
		callers: limited(deadline), long: true,
		fault: func(p *place) {
			p.proxy.DelayAll(roundTrip)
			sleep(p.span(lasting))
			p.proxy.DelayAll(0)
		},
		after: max(4*time.Second, 2*roundTrip),
	}
}

// usual is the deadline of a call in most scenarios.
const usual = 500 * time.Millisecond

func within(deadline time.Duration) string {
	if deadline == 0 {
		return ", calls without a deadline"
	}
	if deadline == usual {
		return ""
	}
	return fmt.Sprintf(", calls with %s", deadline)
}

func limited(deadline time.Duration) func(lib library) callers {
	return func(lib library) callers { return steady(lib.conns, deadline) }
}

// oneEach wants that no caller meets the fault more than once. The short form runs beside other tests,
// where a login can outlast the deadline of a call: there it is twice.
func oneEach(tb testing.TB, lib library, _ way, o *outcome) {
	tb.Helper()
	most := lib.conns
	if !whole() {
		most *= 2
	}
	if o.failed > most {
		tb.Errorf("%d calls of %d callers failed; each may meet a dead connection once", o.failed, lib.conns)
	}
}

func noneFails(tb testing.TB, _ library, _ way, o *outcome) {
	tb.Helper()
	if o.failed > 0 {
		tb.Errorf("%d calls failed", o.failed)
	}
}
