package eviction

import "time"

// window is a sliding-window maximum: the largest value added since a moving moment. Adding and
// forgetting cost O(1) amortized, and it holds at most as many samples as there are different
// values in it.
//
// The samples from head on are in order of time with strictly falling values: a sample that is
// followed by one at least as large can never be the maximum again and is dropped.
type window struct {
	samples []sample
	head    int
}

type sample struct {
	at    time.Time
	value int
}

// add records value as seen at a time not before any added earlier.
func (w *window) add(at time.Time, value int) {
	for len(w.samples) > w.head && w.samples[len(w.samples)-1].value <= value {
		w.samples = w.samples[:len(w.samples)-1]
	}
	if w.head > 0 && 2*w.head >= len(w.samples) {
		w.samples = w.samples[:copy(w.samples, w.samples[w.head:])]
		w.head = 0
	}
	w.samples = append(w.samples, sample{at, value})
}

// forget drops the samples taken at or before t.
func (w *window) forget(t time.Time) {
	for w.head < len(w.samples) && !w.samples[w.head].at.After(t) {
		w.head++
	}
}

// max returns the largest value in the window, or 0 if it is empty.
func (w *window) max() int {
	if w.head == len(w.samples) {
		return 0
	}
	return w.samples[w.head].value
}
