package suite_test

import (
	"context"
	"sync"
	"time"
)

// bursts are faults of the callers: more of them than the pool has connections for.
func bursts() []scenario {
	few := func(library) callers { return callers{n: 4, pause: 40 * time.Millisecond, deadline: 2 * time.Second} }
	return []scenario{
		{
			name: "500 callers at once, 100 ms each", callers: few, after: time.Second,
			worse: map[string]string{"failed": "a pool begins fewer dials at once, and the burst is over before the last connection is open"},
			fault: func(p *place) { p.waves(5, 500, 100*time.Millisecond, 10*time.Millisecond) },
		},
		{
			name: "1,500 callers at once, 5 ms each", callers: few, after: time.Second,
			fault: func(p *place) { p.waves(5, 1500, 5*time.Millisecond, 0) },
		},
		{
			name: "all connections leaked for 3 s",
			fault: func(p *place) {
				ctx, cancel := context.WithTimeout(context.WithoutCancel(p.Context()), 30*time.Second)
				defer cancel()
				var wg sync.WaitGroup
				for range p.lib.conns {
					wg.Go(func() {
						if err := p.client.long(ctx, p.span(3*time.Second)); err != nil {
							p.Logf("a holder failed: %v", err)
						}
					})
				}
				wg.Wait()
			},
		},
		{
			name: "killed, back after 2 s, 300 callers",
			callers: func(library) callers {
				return callers{n: 300, pause: 600 * time.Millisecond, deadline: 500 * time.Millisecond}
			},
			fault: func(p *place) { p.crash(p.span(2 * time.Second)) }, worse: callersWait(),
		},
	}
}

// waves has n callers call at the same moment, some times, over a network with this round trip. Their
// calls count like those of the traffic.
func (p *place) waves(times, n int, deadline, roundTrip time.Duration) {
	p.proxy.DelayAll(roundTrip)
	defer p.proxy.DelayAll(0)
	for range times {
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() { p.load.one(context.Background(), deadline, i%rows, p.client.write) })
		}
		wg.Wait()
	}
	p.crowd = n
}
