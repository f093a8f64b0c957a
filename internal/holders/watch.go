package holders

import (
	"sync"
	"time"

	"github.com/poolkeeper/poolkeeper"
)

// Watch looks at holds again and again. It keeps no goroutine: a timer wakes it.
type Watch struct {
	period time.Duration
	look   func()

	mu      sync.Mutex // guards the following
	timer   *time.Timer
	stopped bool
	running sync.WaitGroup // the look under way
}

// NewWatch returns a stopped watch over t that reports holds that outlast limit, each once, and
// looks twice per limit. report is called with at least one holder, from the timer's goroutine,
// never concurrently.
func NewWatch(t *Table, limit time.Duration, report func([]poolkeeper.Holder)) *Watch {
	return Every(limit/2, func() {
		if late := t.Overdue(time.Now(), limit); len(late) > 0 {
			report(late)
		}
	})
}

// Every returns a stopped watch that calls look, never concurrently, one period after it started
// and one period after each look.
func Every(period time.Duration, look func()) *Watch {
	return &Watch{period: max(period, time.Millisecond), look: look}
}

// Start begins to watch. Starting twice, or after Stop, does nothing.
func (w *Watch) Start() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped || w.timer != nil {
		return
	}
	w.timer = time.AfterFunc(w.period, w.scan)
}

// Stop ends the watch and waits for a look under way. It may be called more than once, and without
// Start.
func (w *Watch) Stop() {
	w.mu.Lock()
	w.stopped = true
	if w.timer != nil {
		w.timer.Stop()
	}
	w.mu.Unlock()
	w.running.Wait()
}

func (w *Watch) scan() {
	w.mu.Lock()
	if w.stopped {
		w.mu.Unlock()
		return
	}
	w.running.Add(1)
	w.mu.Unlock()
	defer w.running.Done()

	w.look()

	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.stopped {
		w.timer.Reset(w.period)
	}
}
