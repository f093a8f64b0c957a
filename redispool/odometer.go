package redispool

import "sync"

// odometer makes a total of one of go-redis' counters, which begin anew after 2³² checkouts.
type odometer struct {
	mu   sync.Mutex // guards the following
	seen uint32     // the counter when it was last read
	sum  uint64
}

// total returns the total at a moment at which the counter is at n. It must be called at least once
// in 2³¹ checkouts.
func (o *odometer) total(n uint32) uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	if ahead := n - o.seen; ahead < 1<<31 { // else a reading that was overtaken by another
		o.sum += uint64(ahead)
		o.seen = n
	}
	return o.sum
}
