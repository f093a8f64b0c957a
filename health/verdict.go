package health

import "time"

// verdict is what is known about one check. It is immutable once published.
type verdict struct {
	status Status
	since  int64 // clock at which status was reached
	reason
	hungSince int64 // clock of the start of the probe that hangs; 0: none
}

// same is whether a page would show the same. The error may be another one with the same text.
func (v *verdict) same(w *verdict) bool {
	return v.status == w.status && v.text == w.text && v.fault == w.fault && v.hungSince == w.hungSince
}

// at is the verdict as it stands at clock now: past the age of the last result it is no longer healthy.
func (v *verdict) at(now, lastResult int64, maxAge time.Duration, wall func(int64) time.Time) *verdict {
	if !v.status.OK() || now <= lastResult+int64(maxAge) {
		return v
	}
	return &verdict{
		status:    StatusFail,
		since:     lastResult + int64(maxAge),
		reason:    reasonOf(&staleError{last: wall(lastResult), maxAge: maxAge}),
		hungSince: v.hungSince,
	}
}
