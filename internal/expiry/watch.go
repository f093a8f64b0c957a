package expiry

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/monotime"
)

const (
	// Soon is how long before its end an expiry is warned of.
	Soon = 14 * 24 * time.Hour
	// again is how long after a warning the same expiry is warned of again.
	again = 24 * time.Hour
	// every is the least time between two looks at a book that has not changed. So an expiry is
	// reported an hour late at most, if the pool calls Due as often.
	every = time.Hour
)

// Watch decides which expiries to warn of: each at most once a day, and again when it has passed. The
// zero Watch is ready to use. It is safe for concurrent use.
type Watch struct {
	book    atomic.Pointer[Book] // as of the last look
	version atomic.Uint64        // of that book
	next    atomic.Int64         // a monotime.Time: when to look again, if the book has not changed

	mu   sync.Mutex // guards the following
	told map[id]warning
}

// warning is the last one of an expiry.
type warning struct {
	at   monotime.Time
	over bool // it said that the expiry is over
}

// Due calls warn for each expiry of b whose warning is due, without a lock. In most calls it only reads
// the clock. It compares with the wall clock, as certificates do.
func (w *Watch) Due(b *Book, warn func(e poolkeeper.Expiry, now time.Time)) {
	if b == nil {
		return
	}
	at, version := monotime.Now(), b.versions.Load()
	if w.book.Load() == b && w.version.Load() == version && at < monotime.Time(w.next.Load()) {
		return
	}
	w.book.Store(b)
	w.version.Store(version)
	w.look(at, b.List, warn)
}

// DueOf is Due for a list without a Book. It reads the list once an hour, and after Renewed.
func (w *Watch) DueOf(list func() []poolkeeper.Expiry, warn func(e poolkeeper.Expiry, now time.Time)) {
	at := monotime.Now()
	if at < monotime.Time(w.next.Load()) {
		return
	}
	w.look(at, list, warn)
}

// look calls warn for the expiries of list whose warning is due at a moment.
func (w *Watch) look(at monotime.Time, list func() []poolkeeper.Expiry, warn func(e poolkeeper.Expiry, now time.Time)) {
	w.next.Store(int64(at.Add(every)))
	now := time.Now()
	for _, e := range w.due(list(), at, now) {
		warn(e, now)
	}
}

// Renewed makes the next DueOf read the list.
func (w *Watch) Renewed() { w.next.Store(0) }

// due returns the expiries of list whose warning is due, and notes that it was given.
func (w *Watch) due(list []poolkeeper.Expiry, at monotime.Time, now time.Time) (out []poolkeeper.Expiry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	told := make(map[id]warning)
	for _, e := range list {
		if now.Add(Soon).Before(e.NotAfter) {
			continue
		}
		k, over := key(e), now.After(e.NotAfter)
		last, known := w.told[k]
		if !known || over && !last.over || at.Sub(last.at) >= again {
			last = warning{at, over}
			out = append(out, e)
		}
		told[k] = last
	}
	w.told = told // without the expiries that are no longer in use
	return out
}
