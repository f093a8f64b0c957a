package lifecycle

// CanBecome lets the tests ask the table of states.
func (s State) CanBecome(next State) bool { return s.canBecome(next) }

// States is the number of states.
const States = stateCount
