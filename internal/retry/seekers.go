package retry

import (
	"sync/atomic"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/monotime"
)

// seekerPause is the least time between two seekers.
const seekerPause = 100 * time.Millisecond

// Seekers paces a pool's looks for the server that was promoted. One is under way at most. The zero
// value is ready to use. It is safe for concurrent use.
type Seekers struct {
	out  atomic.Bool  // one is under way
	next atomic.Int64 // a monotime.Time: no sooner does another one begin
}

// Begin reports whether a seeker may begin now. If so, the caller calls End, or Cancel if it does not
// send one.
func (s *Seekers) Begin() bool {
	return monotime.Now() >= monotime.Time(s.next.Load()) && s.out.CompareAndSwap(false, true)
}

// End notes the end of a seeker that began then. The next one waits for least, for as long as this one
// took, and for what between says of the time between two resets.
func (s *Seekers) End(began monotime.Time, resets, least time.Duration) {
	wait := max(between(resets), least, monotime.Since(began))
	s.next.Store(int64(monotime.Now().Add(wait)))
	s.out.Store(false)
}

// Cancel takes Begin back.
func (s *Seekers) Cancel() { s.out.Store(false) }

// between is the time between two seekers, by the time between two resets of a pool whose server
// refuses writes. That grows from 1 s on. It is 125 ms at 4 s, 2 s at 16 s and 7 s at 30 s: a name that
// moves does so within seconds, and a server that is read-only by intent shall see few of them.
func between(resets time.Duration) time.Duration {
	return max(seekerPause, time.Duration(resets.Seconds()*float64(resets))/128)
}
