package suite_test

import (
	"context"
	"time"
)

// serverEnds are faults in which the server ends sessions, and stays up.
func serverEnds() []scenario {
	return []scenario{idleTimeouts(), allEnded(), oneEnded()}
}

// idleTimeouts has the server end sessions that are idle for 1 s. Callers pause for about as long, and then
// come all at once.
func idleTimeouts() scenario {
	set := func(on bool) func(p *place) {
		return func(p *place) {
			p.Helper()
			p.do(p, func(ctx context.Context) error { return p.admin.idleTimeout(ctx, on) })
		}
	}
	return scenario{
		name:  "sessions idle for 1 s are ended",
		setup: set(true), undo: set(false),
		fault: func(p *place) {
			for range max(p.times(6), 2) {
				p.load.rest(idleLimit*8/10 + time.Duration(p.chance.Float64()*float64(idleLimit*7/10)))
				sleep(300 * time.Millisecond)
			}
		},
		after: time.Second,
	}
}

func allEnded() scenario {
	return scenario{
		name:  "all sessions ended at once",
		fault: func(p *place) { p.do(p, p.admin.endAll) },
		after: 2 * time.Second,
	}
}

func oneEnded() scenario {
	return scenario{
		name: "one session ended, again and again",
		fault: func(p *place) {
			for n := range p.times(100) {
				p.do(p, func(ctx context.Context) error { return p.admin.endOne(ctx, n) })
				sleep(50 * time.Millisecond)
			}
		},
		after: time.Second,
	}
}

// times is how often something happens: a tenth in the short form.
func (p *place) times(n int) int {
	if whole() {
		return n
	}
	return max(n/10, 1)
}
