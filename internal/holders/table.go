// Package holders records the callers that hold a pool's connections. It knows since when a caller
// has held a connection, and where the caller acquired it.
//
// It is on the data path: an [Entry] lives inside the connection it describes, so that holding and
// releasing cost a short lock and, if stacks are on, a walk of the stack into a fixed array.
// Nothing is allocated. A stack becomes text only when a caller asks for it.
package holders

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/poolkeeper/poolkeeper"
)

// Entry is the record of one held connection. Its zero value is ready and not held. It must not be
// copied, and belongs to one Table for its life.
type Entry struct {
	prev, next *Entry
	held       bool
	leaked     bool // reported by Overdue during this hold
	doubtful   bool // it may be a connection that has left the pool: neither reported as late nor blamed
	kind       string
	since      time.Time
	frames     int
	pcs        [maxFrames]uintptr
	text       *text // of pcs; nil until a caller asks for it during this hold
}

// Table lists the held entries of one pool. All methods are safe for concurrent use.
type Table struct {
	settle  func()        // brings the entries up to date before they are looked at; may be nil
	stacks  atomic.Bool   // whether stacks are kept
	renders atomic.Uint64 // stacks turned into text

	mu           sync.Mutex // guards the following and every Entry linked in
	oldest, last *Entry
	n            int
	doubts       int // of n, doubtful ones
}

// NewTable returns an empty table; stacks says whether Hold walks the stack.
func NewTable(stacks bool) *Table {
	t := new(Table)
	t.SetStacks(stacks)
	return t
}

// SettleBy makes the table call f before it reports entries. f brings them up to date. SettleBy
// must be called before the table is used.
func (t *Table) SettleBy(f func()) { t.settle = f }

// Doubt marks a hold that may have ended without a sign, or takes the mark back. A new hold is not
// doubtful.
func (t *Table) Doubt(e *Entry, doubtful bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.held && e.doubtful != doubtful {
		e.doubtful = doubtful
		if doubtful {
			t.doubts++
		} else {
			t.doubts--
		}
	}
}

// SetStacks says whether Hold walks the stack from now on.
func (t *Table) SetStacks(stacks bool) { t.stacks.Store(stacks) }

// Hold records that its caller now holds e. A kind of "conn" is refined, where the stack is known,
// by the library's function that took it: a query's rows, a transaction. Holding an entry that is
// held starts its hold anew.
func (t *Table) Hold(e *Entry, kind string) { t.HoldAt(e, kind, time.Now()) }

// HoldAt is Hold for a caller that knows the time: reading the clock is a good part of what a hold
// costs.
func (t *Table) HoldAt(e *Entry, kind string, now time.Time) {
	var pcs [maxFrames]uintptr
	frames := 0
	if t.stacks.Load() {
		frames = runtime.Callers(2, pcs[:])
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.held {
		t.unlinkLocked(e)
	}
	e.kind, e.since, e.leaked, e.doubtful, e.frames, e.text = kind, now, false, false, frames, nil
	copy(e.pcs[:frames], pcs[:frames])
	e.held = true
	e.prev, e.next = t.last, nil
	if t.last != nil {
		t.last.next = e
	} else {
		t.oldest = e
	}
	t.last = e
	t.n++
}

// Release ends a hold and returns how long it lasted. It reports false if e was not held: releasing
// is idempotent.
func (t *Table) Release(e *Entry) (time.Duration, bool) { return t.ReleaseAt(e, time.Now()) }

// ReleaseAt is Release for a caller that knows the time.
func (t *Table) ReleaseAt(e *Entry, now time.Time) (time.Duration, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !e.held {
		return 0, false
	}
	t.unlinkLocked(e)
	return now.Sub(e.since), true
}

// Holds reports whether e is held now.
func (t *Table) Holds(e *Entry) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return e.held
}

// HeldFor returns how long e has been held at now, or 0 if no caller holds it.
func (t *Table) HeldFor(e *Entry, now time.Time) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !e.held {
		return 0
	}
	return now.Sub(e.since)
}

// Seize ends the hold of e if it has lasted longer than limit at now. It then returns a function
// that describes the holder. It reports false if e is not held, or not for that long. If a Seize
// and a Release race for one hold, exactly one of them gets it.
func (t *Table) Seize(e *Entry, now time.Time, limit time.Duration) (who func() poolkeeper.Holder, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !e.held || now.Sub(e.since) <= limit {
		return nil, false
	}
	r := recordLocked(e)
	t.unlinkLocked(e)
	return func() poolkeeper.Holder { return t.rendered(r)[0] }, true
}

// OldestHold returns the age at now of the longest hold of another kind than except, or 0 if there
// is none. It does not settle the table, and makes no text of stacks.
func (t *Table) OldestHold(now time.Time, except string) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	for e := t.oldest; e != nil; e = e.next {
		if !e.doubtful && e.kind != except {
			return max(now.Sub(e.since), 0)
		}
	}
	return 0
}

// Holder describes the hold of e. It reports false if no caller holds it.
func (t *Table) Holder(e *Entry) (poolkeeper.Holder, bool) {
	t.mu.Lock()
	if !e.held {
		t.mu.Unlock()
		return poolkeeper.Holder{}, false
	}
	r := recordLocked(e)
	t.mu.Unlock()
	return t.rendered(r)[0], true
}

// Len returns how many entries are held.
func (t *Table) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.n
}

// List returns the holders, the oldest first.
func (t *Table) List() []poolkeeper.Holder {
	return t.rendered(t.collect(math.MaxInt, func(*Entry) bool { return true })...)
}

// Overdue returns the holders whose hold has lasted longer than limit at now. Each hold is returned
// once.
func (t *Table) Overdue(now time.Time, limit time.Duration) []poolkeeper.Holder {
	return t.rendered(t.collect(math.MaxInt, func(e *Entry) bool {
		if e.leaked || e.doubtful || now.Sub(e.since) <= limit {
			return false
		}
		e.leaked = true
		return true
	})...)
}

// Oldest returns up to three holders, those that have held for longest. It costs the same however
// many entries are held: a stack becomes text once in its hold, however many callers ask.
func (t *Table) Oldest() []poolkeeper.Holder {
	const most = 3
	return t.rendered(t.collect(most, func(e *Entry) bool { return !e.doubtful })...)
}

// Describe names up to three of the oldest holders in one line, for use in an error: "3 held, oldest
// conn for 41s by api.(*Handler).List (list.go:88); then …".
func (t *Table) Describe(now time.Time) string {
	oldest := t.Oldest()
	if len(oldest) == 0 {
		return "none held"
	}
	texts := make([]string, len(oldest))
	for i, h := range oldest {
		texts[i] = h.Describe(now)
	}
	t.mu.Lock()
	n := max(t.n-t.doubts, len(oldest))
	t.mu.Unlock()
	return fmt.Sprintf("%d held, oldest %s", n, strings.Join(texts, "; then "))
}

// Renders returns how many stacks have been turned into text so far.
func (t *Table) Renders() uint64 { return t.renders.Load() }

// text is what the stack of one hold says.
type text struct {
	pcs []uintptr

	once        sync.Once // guards the following
	kind, stack string
}

// record is one hold, copied out of the table.
type record struct {
	since time.Time
	text  *text
}

func recordLocked(e *Entry) record {
	if e.text == nil {
		e.text = &text{kind: e.kind, pcs: slices.Clone(e.pcs[:e.frames])}
	}
	return record{e.since, e.text}
}

// collect copies the first holds, at most that many, that want accepts. The caller turns them into
// text without the lock, because that is slow.
func (t *Table) collect(most int, want func(*Entry) bool) []record {
	if t.settle != nil {
		t.settle()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []record
	for e := t.oldest; e != nil && len(out) < most; e = e.next {
		if want(e) {
			out = append(out, recordLocked(e))
		}
	}
	return out
}

func (t *Table) rendered(records ...record) []poolkeeper.Holder {
	if len(records) == 0 {
		return nil
	}
	out := make([]poolkeeper.Holder, len(records))
	for i, r := range records {
		r.text.once.Do(func() {
			t.renders.Add(1)
			r.text.stack, r.text.kind = render(r.text.pcs, r.text.kind)
		})
		out[i] = poolkeeper.Holder{Kind: r.text.kind, Since: r.since, Stack: r.text.stack}
	}
	return out
}

func (t *Table) unlinkLocked(e *Entry) {
	if e.doubtful {
		e.doubtful = false
		t.doubts--
	}
	if e.prev != nil {
		e.prev.next = e.next
	} else {
		t.oldest = e.next
	}
	if e.next != nil {
		e.next.prev = e.prev
	} else {
		t.last = e.prev
	}
	e.prev, e.next, e.held = nil, nil, false
	t.n--
}
