package health

// outcome is what one run of a probe said.
type outcome uint8

const (
	passed   outcome = iota
	degraded         // works, with a reservation: counts as a success
	failed
)

// streak is the state machine of one check: a pure value, without clock and without lock.
//
//	             first result decides
//	unknown ──────────────┬────────────────────┐
//	                      ▼                    ▼
//	              pass ◀──▶ warn             fail
//	                 │  failureThreshold in a row ▲
//	                 └────────────────────────────┘   back: successThreshold in a row
type streak struct {
	status   Status
	contrary int // results in a row that speak against status
	failures int // failures in a row up to now
}

// next returns the state after one more result.
func (s streak) next(o outcome, failureThreshold, successThreshold int) streak {
	up := o != failed
	if up {
		s.failures = 0
	} else {
		s.failures++
	}
	switch {
	case s.status == StatusUnknown, s.status.OK() == up:
		s.contrary = 0
		// A single failure below the threshold leaves pass or warn as it was; the last success says
		// which.
		s.status = statusOf(o)
		return s
	}
	s.contrary++
	threshold := failureThreshold
	if up {
		threshold = successThreshold
	}
	if s.contrary >= threshold {
		s.contrary = 0
		s.status = statusOf(o)
	}
	return s
}

// undecided is whether the last result speaks against the status: worth asking again soon.
func (s streak) undecided() bool { return s.contrary > 0 }

func statusOf(o outcome) Status {
	switch o {
	case passed:
		return StatusPass
	case degraded:
		return StatusWarn
	case failed:
	}
	return StatusFail
}
