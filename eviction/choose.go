package eviction

import "time"

// Which connections go is Sweep.Choose; how many are surplus is planner.plan in plan.go.

// Conn is what a pool knows of one of its connections.
type Conn struct {
	// Born is when the connection was opened.
	Born time.Time
	// Draw is a number in [0, 1) that the pool drew at random when it opened the connection and
	// keeps with it, so that a change of policy applies to connections already open.
	Draw float64
	// Heard is when the connection last gave a sign of life.
	Heard time.Time
	// Condemned connections go whatever the demand: they are broken, or the pool was reset.
	Condemned bool
	// Mute connections cannot be pinged.
	Mute bool
}

// Action is what becomes of an idle connection.
type Action uint8

const (
	// ActionKeep puts the connection back.
	ActionKeep Action = iota
	// ActionPing asks the connection for a sign of life, and closes it if it gives none.
	ActionPing
	// ActionCloseSurplus closes a connection that demand has not needed.
	ActionCloseSurplus
	// ActionCloseExpired closes a connection that has reached its lifetime.
	ActionCloseExpired
	// ActionCloseCondemned closes a connection that the pool has condemned.
	ActionCloseCondemned
)

// String returns "keep", "ping" or "close" with the reason.
func (a Action) String() string {
	switch a {
	case ActionPing:
		return "ping"
	case ActionCloseSurplus:
		return "close: surplus"
	case ActionCloseExpired:
		return "close: expired"
	case ActionCloseCondemned:
		return "close: condemned"
	case ActionKeep:
	}
	return "keep"
}

// Closes reports whether the connection is closed without being asked.
func (a Action) Closes() bool { return a >= ActionCloseSurplus }

// Choose decides what becomes of the idle connections of a pool. It is a pure function: both the
// order and the decision stay the same however a pool gets hold of its connections.
//
// The connections come the coldest first. needed is how many of them callers wait for at this
// moment. The result has one action for each, in the same order:
//
//   - condemned connections and expired ones are closed;
//   - of the others the coldest are closed, until s.Surplus connections are closed for any of the
//     three reasons, or no more than s.MinIdle and needed are left, because demand has risen since s
//     was decided;
//   - of what is left, silent connections are pinged, at most s.Batch and at most half of those not
//     closed for their own sake, so that callers find some meanwhile.
//
// again reports that silent connections are left over. The pool then calls Choose again after the
// pings, with a Surplus of 0.
func (s Sweep) Choose(idle []Conn, needed int) (actions []Action, again bool) {
	actions = make([]Action, len(idle))
	stay := len(idle)
	for i, c := range idle {
		switch {
		case c.Condemned:
			actions[i] = ActionCloseCondemned
			stay--
		case s.Expired(c.Born, c.Draw):
			actions[i] = ActionCloseExpired
			stay--
		}
	}
	surplus := min(s.Surplus-(len(idle)-stay), stay-needed-s.MinIdle) // INV-7
	pings := max(min(s.Batch, stay/2), 1)
	for i, c := range idle {
		switch {
		case actions[i].Closes():
		case surplus > 0:
			actions[i] = ActionCloseSurplus
			surplus--
		case !s.silent(c):
		case pings > 0:
			actions[i] = ActionPing
			pings--
		default:
			again = true
		}
	}
	return actions, again
}

// Expired reports whether a connection opened at born has reached its lifetime by s.Now. For draw
// see [Conn.Draw].
func (s Sweep) Expired(born time.Time, draw float64) bool {
	return s.MaxLifetime != 0 && !s.Now.Before(s.expiry(born, draw))
}

func (s Sweep) expiry(born time.Time, draw float64) time.Time {
	return born.Add(lifetime(s.MaxLifetime, s.LifetimeJitter, draw))
}

// silent reports whether c is to be asked for a sign of life.
func (s Sweep) silent(c Conn) bool {
	return s.KeepAlive > 0 && !c.Mute && s.Now.Sub(c.Heard) >= s.KeepAlive
}

// Due reports whether there is anything to do about a connection, apart from the surplus.
func (s Sweep) Due(c Conn) bool {
	return c.Condemned || s.Expired(c.Born, c.Draw) || s.silent(c)
}

// Next returns when the first of the open connections reaches its lifetime or its KeepAlive
// silence, or the zero time if none will. A connection that has expired by now is in use: the pool
// closes it when it comes back.
func (s Sweep) Next(open []Conn) time.Time {
	var next time.Time
	sooner := func(t time.Time) {
		if next.IsZero() || t.Before(next) {
			next = t
		}
	}
	for _, c := range open {
		if s.MaxLifetime > 0 && !s.Expired(c.Born, c.Draw) {
			sooner(s.expiry(c.Born, c.Draw))
		}
		if s.KeepAlive > 0 && !c.Mute {
			sooner(c.Heard.Add(s.KeepAlive))
		}
	}
	return next
}
