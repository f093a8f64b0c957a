package lifecycle

import "time"

// State is where a component is in its life.
//
//	Added ──▶ Starting ──▶ Up ──▶ Draining ──▶ Stopping ──▶ Stopped
//	  │          │         │ ╲                    ▲           │
//	  │          ▼         │  ▶ Completed, Dead ──┤           └─▶ Starting (restart)
//	  │        Failed ─────┼──────────────────────┤
//	  └────────────────────┴──────────────────────┘
//
// Every state in which something can hang, or whose turn may never come, leads to Abandoned as
// well.
type State uint8

// stateCount is the number of states.
const stateCount = int(StateAbandoned) + 1

// The states of a component.
const (
	StateAdded     State = iota // never started
	StateStarting               // Start is running
	StateUp                     // Start has returned nil
	StateCompleted              // it ended by itself, as it should: a [Worker] returned nil
	StateDead                   // it ended by itself with an error
	StateDraining               // Drain is running
	StateStopping               // Stop, or Abort for what was never up, is running
	StateStopped                // Stop or Abort has returned
	StateFailed                 // Start returned an error
	StateAbandoned              // given up: something of it may still run, or it was never asked to stop
)

// legal[s] has the bit of every state that may follow s. It is the only place that knows; a
// transition that is not here does not happen, which is how results that come too late are told
// from those that count.
//
//nolint:gochecknoglobals // a constant table
var legal = [stateCount]uint16{
	StateAdded:     bits(StateStarting, StateStopping, StateAbandoned),
	StateStarting:  bits(StateUp, StateFailed, StateAbandoned),
	StateUp:        bits(StateCompleted, StateDead, StateDraining, StateStopping, StateAbandoned),
	StateCompleted: bits(StateDraining, StateStopping, StateAbandoned),
	StateDead:      bits(StateDraining, StateStopping, StateAbandoned),
	StateDraining:  bits(StateStopping, StateAbandoned),
	StateStopping:  bits(StateStopped, StateAbandoned),
	StateStopped:   bits(StateStarting),
	StateFailed:    bits(StateStopping, StateAbandoned),
	StateAbandoned: bits(StateStopped), // it came back late, and was stopped
}

func bits(states ...State) uint16 {
	var b uint16
	for _, s := range states {
		b |= 1 << s
	}
	return b
}

// canBecome reports whether next may follow s.
func (s State) canBecome(next State) bool {
	return int(s) < stateCount && int(next) < stateCount && legal[s]&(1<<next) != 0
}

// String returns the state in lower case.
func (s State) String() string {
	switch s {
	case StateAdded:
		return "added"
	case StateStarting:
		return "starting"
	case StateUp:
		return "up"
	case StateCompleted:
		return "completed"
	case StateDead:
		return "dead"
	case StateDraining:
		return "draining"
	case StateStopping:
		return "stopping"
	case StateStopped:
		return "stopped"
	case StateFailed:
		return "failed"
	case StateAbandoned:
		return "abandoned"
	}
	return "unknown"
}

// becomeLocked makes n's state next if that may follow, and reports whether it did.
func (r *Registry) becomeLocked(n *node, next State, now time.Time) bool {
	if !n.state.canBecome(next) {
		return false
	}
	n.state, n.since = next, now
	return true
}
