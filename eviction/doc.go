// Package eviction decides which idle connections of a pool to close, when, and how many to keep
// open, and sees to it. It knows no driver: a pool implements [Pool], and an [Evictor] works on it
// by a [Policy].
//
// The rule is about demand, not about single connections. In a pool that hands out the connection
// used last first (LIFO, as go-redis, puddle and database/sql do), the connections that went unused
// for the last MaxIdleTime are exactly as many as were idle at every moment of it, and so
//
//	surplus = open − most in use at once within MaxIdleTime − MinIdle
//
// needs no clock per connection:
//
//	connections
//	  100 ┤████████████████████████▄ open
//	      │                        ▀█▄ the surplus goes, in small batches
//	   50 ┤  ▄█▄                     █
//	      │ ▄███▄  in use            █
//	    7 ┤ █████                    ███████████████  ┐ MinIdle
//	    5 ┤▄█████▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄  ┘ what the traffic needs
//	      └──────┬─────────────────┬──┬──────────────▶ time
//	             └── MaxIdleTime ──┘  └ at most one Interval later
//
// Besides, connections past MaxLifetime are closed, silent ones are pinged every KeepAlive, and
// MinIdle is kept by one adder that looks anew before each dial, so that neither a burst nor an
// outage ends in a storm of dials.
//
// Which idle connections go is one pure decision, [Sweep.Choose], the same for every pool:
//
//	Evictor ──Open, Peak──▶ surplus ──Sweep──▶ Pool ──idle, coldest first──▶ Choose ──▶ close, ping, keep
//
// An Evictor has no goroutine. A timer wakes it every Interval while something can come of it; in a
// pool at rest it sleeps until [Evictor.Wake], and costs nothing.
//
//	e := eviction.New(pool, eviction.Policy{MinIdle: 2, MaxIdleTime: 5 * time.Minute})
//	if err := e.Start(ctx); err != nil {
//		return err
//	}
//	defer e.Stop(ctx)
//
// What the package refuses to do: it touches no connection in use, takes no part in handing
// connections out, logs nothing, and does not guess future demand from past demand beyond the
// window.
package eviction
