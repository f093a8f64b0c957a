package health

// verdict is what is known about one check. It is immutable once published.
type verdict struct {
	reason

	status    Status
	since     int64 // clock at which status was reached
	hungSince int64 // clock of the start of the probe that hangs; 0: none
}

// same is whether a page would show the same. The error may be another one with the same text.
func (v *verdict) same(w *verdict) bool {
	return v.status == w.status && v.since == w.since && v.text == w.text && v.fault == w.fault && v.hungSince == w.hungSince
}
