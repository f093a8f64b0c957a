// Package life is a pool's way from New to Stopped: who may move it on, who waits for whom, and
// what is said about it.
//
//	unstarted ──Start──▶ starting ──▶ running ──Drain──▶ draining ──▶ stopping ──▶ stopped
//	    ▲                    │                              ▲
//	    └───── it failed ────┘        Stop, Abort ──────────┘ from anywhere, and a Start under way is cancelled
//
// A pool keeps one [State] and gives it what is its own, as functions:
//
//	func (p *Pool) Start(ctx context.Context) error { return p.state.Start(ctx, p.reach, p.watch) }
//	func (p *Pool) Stop(ctx context.Context) error  { return p.state.Stop(ctx, p.shut) }
//	func (p *Pool) Abort() error                    { return p.state.Abort(p.shut) }
//
// It refuses to know what a pool holds: to count what is in flight, to cut it off and to name it is
// the pool's.
package life
