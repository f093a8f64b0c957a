package holders

import (
	"sync"
	"time"

	"github.com/poolkeeper/poolkeeper"
)

// Watch reports holds that outlast a limit, each once. It keeps no goroutine: a timer wakes it twice per limit.
type Watch struct {
	table  *Table
	limit  time.Duration
	report func([]poolkeeper.Holder)

	mu      sync.Mutex // guards the following
	timer   *time.Timer
	stopped bool
	running sync.WaitGroup // the scan under way
}

// NewWatch returns a stopped watch over t. report is called with at least one holder, from the timer's goroutine,
// never concurrently.
func NewWatch(t *Table, limit time.Duration, report func([]poolkeeper.Holder)) *Watch {
	return &Watch{table: t, limit: limit, report: report}
}

// Start begins to watch. Starting twice, or after Stop, does nothing.
func (w *Watch) Start() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped || w.timer != nil {
		return
	}
	w.timer = time.AfterFunc(w.period(), w.scan)
}

// Stop ends the watch and waits for a report under way. It may be called more than once, and without Start.
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

	if late := w.table.Overdue(time.Now(), w.limit); len(late) > 0 {
		w.report(late)
	}

	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.stopped {
		w.timer.Reset(w.period())
	}
}

func (w *Watch) period() time.Duration { return max(w.limit/2, time.Millisecond) }
