package poolkeeper

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/plural"
)

// AcquireError says why a caller did not get a connection: what the pool looked like when the caller
// gave up waiting, or was refused because of MaxWaiting. It matches [ErrAcquireTimeout] and
// context.DeadlineExceeded if AcquireTimeout or the caller's own deadline ended the wait, or if that
// deadline was too close for a connection to be of use. It matches [ErrTooManyWaiting] if the caller
// was refused, and [ErrPaused] if the pool was paused. That of a Redis pool also matches
// redis.ErrPoolTimeout after AcquireTimeout.
type AcquireError struct {
	Pool      string        // name of the pool; on a Cluster, of the node too
	Max       int           // MaxOpen
	InUse     int           // connections held by callers
	Waiting   int           // other callers in the queue
	Dialing   int           // connections being opened; 0 on Redis, where it is not known
	Reclaimed int           // places of MaxOpen whose connection ReclaimAfter closed and no caller released yet
	DialErr   error         // why no connection can be opened, if none could be lately; else nil
	Oldest    []Holder      // at most three callers that have held a connection for longest, the oldest first
	Waited    time.Duration // how long this caller waited; 0: not known, or not at all
	Time      time.Time     // when it gave up
	Err       error         // why it gave up, or was refused
}

// Error says all of it in one line.
func (e *AcquireError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "poolkeeper: acquire from %q: %d of %d in use", e.Pool, e.InUse, e.Max)
	if len(e.Oldest) > 0 {
		b.WriteString(", oldest " + describe(e.Oldest, e.Time, "; then "))
	}
	if e.Reclaimed > 0 {
		fmt.Fprintf(&b, "; %s reclaimed but not released by their callers", plural.Of(e.Reclaimed, "connection"))
	}
	if e.Dialing > 0 {
		fmt.Fprintf(&b, "; %d being opened", e.Dialing)
	}
	if e.DialErr != nil {
		fmt.Fprintf(&b, "; %v", e.DialErr)
	}
	if e.Waiting > 0 {
		fmt.Fprintf(&b, "; %d more waiting", e.Waiting)
	}
	switch {
	case errors.Is(e.Err, ErrTooManyWaiting):
		fmt.Fprintf(&b, "; refused: %v", e.Err)
	case e.Waited == 0:
		fmt.Fprintf(&b, "; gave up: %v", e.Err)
	default:
		fmt.Fprintf(&b, "; gave up after %s: %v", e.Waited.Round(time.Millisecond), e.Err)
	}
	return b.String()
}

// Unwrap returns Err.
func (e *AcquireError) Unwrap() error { return e.Err }

// HeldError says what a pool's Stop or Abort cut off. They return it when callers still held
// connections, or commands were still running, at the end.
type HeldError struct {
	Pool     string    // name of the pool
	Commands int       // commands and pipelines that were cut off; 0 on SQL, where Cut counts them
	Waiting  int       // callers that waited for a connection, and were refused; 0 on SQL
	Holders  []Holder  // the callers that held a connection, the oldest first; empty where the pool cannot know them
	Cut      int       // connections whose sockets were closed under their holders
	Left     int       // connections that stay open until they are released: their sockets are out of reach
	Time     time.Time // when they were cut off
	Err      error     // what ended the wait, and what else went wrong
}

// Error says what was cut off, and names up to five holders with kind, age and place.
func (e *HeldError) Error() string {
	var cut []string
	for _, part := range []struct {
		n    int
		noun string
	}{{e.Commands, "command"}, {e.Waiting, "waiting caller"}, {e.Cut, "connection"}} {
		if part.n > 0 {
			cut = append(cut, plural.Of(part.n, part.noun))
		}
	}
	text := strings.Join(cut, " and ")
	switch {
	case text != "" && e.Left > 0:
		text = fmt.Sprintf("cut off %s, cannot cut off %d more,", text, e.Left)
	case text != "":
		text = "cut off " + text
	case e.Left > 0:
		text = "cannot cut off " + plural.Of(e.Left, "connection")
	default:
		text = "callers were still waiting or at work"
	}
	if len(e.Holders) > 0 {
		const most = 5
		text += " held by " + describe(e.Holders[:min(most, len(e.Holders))], e.Time, "; ")
		if more := len(e.Holders) - most; more > 0 {
			text += fmt.Sprintf("; and %d more", more)
		}
	}
	return fmt.Sprintf("poolkeeper: stop %q: %s: %v", e.Pool, text, e.Err)
}

// Unwrap returns Err.
func (e *HeldError) Unwrap() error { return e.Err }

func describe(list []Holder, at time.Time, between string) string {
	texts := make([]string, len(list))
	for i, h := range list {
		texts[i] = h.Describe(at)
	}
	return strings.Join(texts, between)
}
