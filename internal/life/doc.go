// Package life runs a pool's life from New to Stopped. It decides which call may change the phase,
// which call waits for another, and which events report it.
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
