package redispool

import (
	"container/list"
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// valve holds callers up before they ask go-redis for a connection: all of them while the pool is paused, or looks through
// its idle connections, and those above the limit after Reload has lowered it, in order of arrival. It is out of the way otherwise: an idle valve costs
// one atomic load.
type valve struct {
	active atomic.Bool   // paused or shut, or with a limit, or with a queue
	waits  atomic.Uint64 // callers who have queued, and are done with it
	waited atomic.Int64  // nanoseconds, those callers together

	mu     sync.Mutex // guards the following
	paused bool
	shut   bool      // for a moment: the pool looks through what is idle
	limit  int       // 0: none
	size   int       // who waited out a pause goes on in order, this many at a time; 0: all at once
	busy   int       // those who have passed and are not done
	queue  list.List // of chan struct{}, closed when its owner may pass
}

// set changes what holds callers up, and lets go those who may.
func (v *valve) set(change func(v *valve)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	change(v)
	v.admitLocked()
}

func (v *valve) isPaused() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.paused
}

// isFull reports whether the limit holds callers up.
func (v *valve) isFull() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.limit > 0 && v.busy >= v.limit
}

func (v *valve) waiting() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.queue.Len()
}

// pass waits for its turn, until ctx ends or limit, if it is not 0, is over. After nil the caller owes a done. The error
// is redis.ErrPoolTimeout or that of ctx, bare.
func (v *valve) pass(ctx context.Context, limit time.Duration) error {
	v.mu.Lock()
	if v.queue.Len() == 0 && v.openLocked() {
		v.busy++
		v.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	e := v.queue.PushBack(turn)
	v.mu.Unlock()

	begun := time.Now()
	defer func() {
		v.waits.Add(1)
		v.waited.Add(int64(time.Since(begun)))
	}()
	var over <-chan time.Time
	if limit > 0 {
		t := time.NewTimer(limit)
		defer t.Stop()
		over = t.C
	}
	err := error(nil)
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-over:
		err = redis.ErrPoolTimeout
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	select {
	case <-turn: // it came at the same moment: hand it on
		v.busy--
	default:
		v.queue.Remove(e)
	}
	v.admitLocked()
	return err
}

// done ends a pass.
func (v *valve) done() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.busy--
	v.admitLocked()
}

func (v *valve) openLocked() bool {
	limit := v.limit
	if limit == 0 {
		limit = v.size
	}
	return !v.paused && !v.shut && (limit == 0 || v.busy < limit)
}

func (v *valve) admitLocked() {
	for e := v.queue.Front(); e != nil && v.openLocked(); e = v.queue.Front() {
		turn, _ := v.queue.Remove(e).(chan struct{})
		v.busy++
		close(turn)
	}
	v.active.Store(v.paused || v.shut || v.limit > 0 || v.queue.Len() > 0)
}
