package lifecycle

// dueQueue is a heap of calls by the time a pass has to look at them next. Entries are not removed
// when a call is over or gets another time: they are found out of date when their time comes.
type dueQueue []dueEntry

type dueEntry struct {
	at instant
	c  *call
}

// old reports whether the entry has nothing to say any more.
func (e dueEntry) old() bool { return e.c.parts == 0 || e.c.at != e.at }

// next returns the time of the first entry.
func (q *dueQueue) next() (instant, bool) {
	if len(*q) == 0 {
		return 0, false
	}
	return (*q)[0].at, true
}

func (q *dueQueue) push(c *call) {
	h := *q
	for len(h) > 0 && h[0].old() { // keeps the heap of a chain short
		h.pop()
	}
	h = append(h, dueEntry{c.at, c})
	for i := len(h) - 1; i > 0; {
		parent := (i - 1) / 2
		if h[i].at >= h[parent].at {
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
		if child+1 < last && h[child+1].at < h[child].at {
			child++
		}
		if h[child].at >= h[i].at {
			break
		}
		h[i], h[child] = h[child], h[i]
		i = child
	}
	*q = h
	return first
}
