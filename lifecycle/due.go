package lifecycle

import "time"

// dueQueue is a heap of calls by the time a pass has to look at them next. Entries are not removed when a call is
// over or gets another time: they are found out of date when their time comes.
type dueQueue []dueEntry

type dueEntry struct {
	at time.Time
	c  *call
}

// next returns the time of the first entry.
func (q dueQueue) next() (time.Time, bool) {
	if len(q) == 0 {
		return time.Time{}, false
	}
	return q[0].at, true
}

func (q *dueQueue) push(c *call) {
	h := append(*q, dueEntry{c.at, c})
	for i := len(h) - 1; i > 0; {
		parent := (i - 1) / 2
		if !h[i].at.Before(h[parent].at) {
			break
		}
		h[i], h[parent] = h[parent], h[i]
		i = parent
	}
	*q = h
}

func (q *dueQueue) pop() dueEntry {
	h := *q
	first, last := h[0], len(h)-1
	h[0] = h[last]
	h[last] = dueEntry{}
	h = h[:last]
	for i := 0; ; {
		child := 2*i + 1
		if child >= last {
			break
		}
		if child+1 < last && h[child+1].at.Before(h[child].at) {
			child++
		}
		if !h[child].at.Before(h[i].at) {
			break
		}
		h[i], h[child] = h[child], h[i]
		i = child
	}
	*q = h
	return first
}
