package health

// Status is a verdict. The names are those of application/health+json.
type Status uint8

const (
	// StatusUnknown is the status of a check that has no result yet. It is the zero value. A group
	// is never unknown: with an undecided critical check it is not ready.
	StatusUnknown Status = iota
	// StatusPass is healthy.
	StatusPass
	// StatusWarn works, but: a degraded check, or a group in which a degrading check failed.
	StatusWarn
	// StatusFail does not work.
	StatusFail
)

// String returns "unknown", "pass", "warn" or "fail".
func (s Status) String() string {
	switch s {
	case StatusPass:
		return "pass"
	case StatusWarn:
		return "warn"
	case StatusFail:
		return "fail"
	case StatusUnknown:
	}
	return "unknown"
}

// OK reports whether s is StatusPass or StatusWarn: answered with 200.
func (s Status) OK() bool { return s == StatusPass || s == StatusWarn }

// MarshalText makes JSON print the name.
func (s Status) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
