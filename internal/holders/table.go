// Package holders records the callers that hold a pool's connections. It knows since when a caller
// has held a connection, and where the caller acquired it.
//
// It is on the data path: an [Entry] lives inside the connection it describes, so that holding and
// releasing cost a short lock and, if stacks are on, a walk of the stack into a fixed array.
// Nothing is allocated. A stack becomes text only when a caller asks for it.
package holders

import (
	"fmt"
	"runtime"
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
	e.kind, e.since, e.leaked, e.doubtful, e.frames = kind, now, false, false, frames
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
	r := []record{{e.kind, e.since, e.frames, e.pcs}}
	t.unlinkLocked(e)
	return func() poolkeeper.Holder { return t.rendered(r)[0] }, true
}

// Len returns how many entries are held.
func (t *Table) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.n
}

// List returns the holders, the oldest first.
func (t *Table) List() []poolkeeper.Holder {
	return t.rendered(t.collect(func(*Entry) bool { return true }))
}

// Overdue returns the holders whose hold has lasted longer than limit at now. Each hold is returned
// once.
func (t *Table) Overdue(now time.Time, limit time.Duration) []poolkeeper.Holder {
	return t.rendered(t.collect(func(e *Entry) bool {
		if e.leaked || e.doubtful || now.Sub(e.since) <= limit {
			return false
		}
		e.leaked = true
		return true
	}))
}

// Oldest records up to three of the oldest holders at one moment. Turning it into text is slow, so
// that happens only when a caller asks.
type Oldest struct {
	table *Table
	held  int
	first []record // at most three
	now   time.Time
}

// Oldest costs the same however many entries are held.
func (t *Table) Oldest(now time.Time) Oldest {
	const most = 3
	if t.settle != nil {
		t.settle()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	o := Oldest{table: t, held: t.n - t.doubts, now: now}
	if o.held > 0 {
		o.first = make([]record, 0, min(o.held, most))
	}
	for e := t.oldest; e != nil && len(o.first) < min(o.held, most); e = e.next {
		if !e.doubtful {
			o.first = append(o.first, record{e.kind, e.since, e.frames, e.pcs})
		}
	}
	return o
}

// String names at most three holders: "oldest conn for 41s by api.(*Handler).List (list.go:88);
// then …". It is empty if nothing was held.
func (o Oldest) String() string {
	if o.held == 0 {
		return ""
	}
	return "oldest " + name(o.table.rendered(o.first), o.now, "; then ")
}

// Describe says how many entries were held beside that: "3 held, oldest conn for 41s by
// api.(*Handler).List (list.go:88)".
func (o Oldest) Describe() string {
	if o.held == 0 {
		return "none held"
	}
	return fmt.Sprintf("%d held, %s", o.held, o)
}

// Describe names up to three of the oldest holders in one line, for use in an error.
func (t *Table) Describe(now time.Time) string { return t.Oldest(now).Describe() }

// Renders returns how many stacks have been turned into text so far.
func (t *Table) Renders() uint64 { return t.renders.Load() }

// Describe names up to five of those in list, with kind, age and place, and says how many more
// there are.
func Describe(list []poolkeeper.Holder, now time.Time) string {
	const most = 5
	out := name(list[:min(most, len(list))], now, "; ")
	if more := len(list) - most; more > 0 {
		out += fmt.Sprintf("; and %d more", more)
	}
	return out
}

func name(list []poolkeeper.Holder, now time.Time, between string) string {
	var b strings.Builder
	for i, h := range list {
		if i > 0 {
			b.WriteString(between)
		}
		fmt.Fprintf(&b, "%s for %s by %s", h.Kind, now.Sub(h.Since).Round(time.Millisecond), Site(h.Stack))
	}
	return b.String()
}

type record struct {
	kind   string
	since  time.Time
	frames int
	pcs    [maxFrames]uintptr
}

// collect copies the records that want accepts under the lock. The caller turns them into text
// later, because that is slow.
func (t *Table) collect(want func(*Entry) bool) []record {
	if t.settle != nil {
		t.settle()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []record
	for e := t.oldest; e != nil; e = e.next {
		if want(e) {
			out = append(out, record{e.kind, e.since, e.frames, e.pcs})
		}
	}
	return out
}

func (t *Table) rendered(records []record) []poolkeeper.Holder {
	t.renders.Add(uint64(len(records)))
	out := make([]poolkeeper.Holder, len(records))
	for i, r := range records {
		stack, kind := render(r.pcs[:r.frames], r.kind)
		out[i] = poolkeeper.Holder{Kind: kind, Since: r.since, Stack: stack}
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
