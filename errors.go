package poolkeeper

import (
	"errors"
	"fmt"
	"time"
)

var (
	// ErrDraining is returned for work that begins after its pool has begun to drain. Work that was
	// in flight before is not affected. A caller should not retry on the same pool: it will not
	// come back.
	ErrDraining = errors.New("poolkeeper: draining")

	// ErrClosed is returned for work on a pool that has been stopped.
	ErrClosed = errors.New("poolkeeper: closed")

	// ErrAcquireTimeout is matched by the error of a caller that waited for a connection for
	// AcquireTimeout, or until its own deadline, in vain. Such an error also matches
	// [context.DeadlineExceeded].
	ErrAcquireTimeout = errors.New("poolkeeper: no connection in time")

	// ErrTooManyWaiting is matched by the error of a caller that was refused because MaxWaiting
	// callers wait already.
	ErrTooManyWaiting = errors.New("poolkeeper: too many callers are waiting")

	// ErrPaused is matched by the error of a caller that gave up while its pool was paused (see
	// Pause of the pools). Such an error also matches ErrAcquireTimeout if the caller waited for
	// AcquireTimeout, or until its own deadline.
	ErrPaused = errors.New("poolkeeper: paused")

	// ErrDown is matched by a [DownError]: the server is known to be gone, and nothing was tried.
	ErrDown = errors.New("poolkeeper: the server is down")
)

// DownError is what callers get at once while the server of their pool is known to be down (see
// FailFastAfter of the pools' configurations). Nothing was sent, so that a caller can fall back:
// compute what it would have read from a cache, or answer 503. It matches [ErrDown]. All callers of
// one outage get the same one: it must not be changed.
type DownError struct {
	Pool   string    // name of the pool; on a Cluster, of the node too
	Since  time.Time // when the first attempt began that failed
	Advice string    // what to look at first; may be empty
	Err    error     // why the last attempt to reach the server failed
}

// Error names the pool, for how long its server has been down, and why.
func (e *DownError) Error() string {
	text := fmt.Sprintf("poolkeeper: acquire from %q: the server has been down for %s: %v",
		e.Pool, time.Since(e.Since).Round(time.Second), e.Err)
	if e.Advice != "" {
		text += " (" + e.Advice + ")"
	}
	return text
}

// Unwrap returns ErrDown and Err.
func (e *DownError) Unwrap() []error { return []error{ErrDown, e.Err} }
