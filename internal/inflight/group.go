package inflight

import (
	"context"
	"sync"
)

// Group counts work that must have ended before its owner has: goroutines, and what else takes a
// while to close. Unlike a sync.WaitGroup, its Wait takes a context, and work may begin while a
// goroutine waits. Its zero value is ready. It is safe for concurrent use.
type Group struct {
	mu    sync.Mutex // guards the following
	n     int
	empty chan struct{} // closed when n becomes 0; nil: no goroutine waits
}

// Begin counts one more piece of work. The caller owes an End.
func (g *Group) Begin() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.n++
}

// End ends a piece of work.
func (g *Group) End() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.n--
	if g.n == 0 && g.empty != nil {
		close(g.empty)
		g.empty = nil
	}
}

// Go runs f in a goroutine that Wait waits for.
func (g *Group) Go(f func()) {
	g.Begin()
	go func() {
		defer g.End()
		f()
	}()
}

// Wait blocks until nothing is under way. It returns the cause of ctx's end if that comes first.
func (g *Group) Wait(ctx context.Context) error {
	g.mu.Lock()
	n := g.n
	if n > 0 && g.empty == nil {
		g.empty = make(chan struct{})
	}
	empty := g.empty
	g.mu.Unlock()
	if n == 0 {
		return nil
	}
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
