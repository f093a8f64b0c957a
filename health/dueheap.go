package health

// dueHeap orders registrations by when the scheduler has to look at them. It is a container/heap
// that tells each registration its position, so that any of them can be moved.
type dueHeap []*Registration

// Len, Less, Swap, Push and Pop are for container/heap only.
func (h *dueHeap) Len() int           { return len(*h) }
func (h *dueHeap) Less(i, j int) bool { return (*h)[i].next < (*h)[j].next }
func (h *dueHeap) Swap(i, j int) {
	a := *h
	a[i], a[j] = a[j], a[i]
	a[i].index, a[j].index = i, j
}

func (h *dueHeap) Push(x any) {
	r, _ := x.(*Registration)
	r.index = len(*h)
	*h = append(*h, r)
}

func (h *dueHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	last.index = -1
	return last
}
