package poolkeeper

import "errors"

var (
	// ErrDraining is returned for work that begins after its pool has begun to drain. Work that was in flight
	// before is not affected. A caller should not retry on the same pool: it will not come back.
	ErrDraining = errors.New("poolkeeper: draining")

	// ErrClosed is returned for work on a pool that has been stopped.
	ErrClosed = errors.New("poolkeeper: closed")
)
