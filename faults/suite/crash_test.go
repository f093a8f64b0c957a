package suite_test

import (
	"context"
	"fmt"
	"time"
)

// crashes are faults in which the server ends, or takes nobody.
func crashes() []scenario {
	var out []scenario
	for _, down := range []time.Duration{2 * time.Second, 10 * time.Second, 30 * time.Second} {
		out = append(out, scenario{
			name: fmt.Sprintf("killed, back after %s", down), long: down > 2*time.Second,
			fault: func(p *place) { p.crash(p.span(down)) }, worse: callersWait(),
		})
	}
	return append(out,
		scenario{
			name: "restarted with another password",
			fault: func(p *place) {
				p.do(p, func(ctx context.Context) error { return p.admin.setPassword(ctx, renewed) })
				p.do(p, p.admin.endAll)
				sleep(p.span(time.Second))
				p.knows(renewed) // the service learns of it late
			},
			undo: func(p *place) {
				p.do(p, func(ctx context.Context) error { return p.admin.setPassword(ctx, secret) })
			},
		},
		scenario{
			name:  "full for 3 s",
			fault: func(p *place) { p.fill(p); sleep(p.span(3 * time.Second)); p.free() },
		},
		scenario{
			name: "killed, then full for 3 s", worse: callersWait(),
			fault: func(p *place) {
				p.crash(p.span(2 * time.Second))
				p.fill(p)
				sleep(p.span(3 * time.Second))
				p.free()
			},
		},
	)
}

// crash kills the server, and starts it again. Meanwhile connections are refused.
func (p *place) crash(down time.Duration) {
	p.Helper()
	p.proxy.Refuse(p, true)
	p.Kill(p)
	sleep(down)
	p.back(p)
	p.proxy.Refuse(p, false)
}
