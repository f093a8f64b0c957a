package poolkeeper

import (
	"fmt"
	"time"
)

// Off turns off a limit of a pool's configuration that is on by default. It is accepted where a
// field's comment says so.
const Off time.Duration = -1

// NoWaiting is a MaxWaiting that lets no caller wait: one that finds no connection free is refused
// at once.
const NoWaiting = -1

// NoJitter turns off the jitter of lifetimes and of health checks; 0 means the default. It is a part
// so small that it moves nothing.
const NoJitter = 1e-12

// StartPolicy says what a pool's Start does while its server cannot be reached.
type StartPolicy int

// Start policies.
const (
	// StartFailFast makes Start fail when the first attempt to reach the server fails. It is the
	// default.
	StartFailFast StartPolicy = iota
	// StartWaitForServer makes Start try again, after 1 s and then doubling to 30 s with jitter,
	// until its context ends.
	StartWaitForServer
	// StartDegraded makes Start succeed after one failed attempt. Check goes on failing until the
	// server is there.
	StartDegraded
)

// String returns the name of the constant.
func (p StartPolicy) String() string {
	switch p {
	case StartFailFast:
		return "StartFailFast"
	case StartWaitForServer:
		return "StartWaitForServer"
	case StartDegraded:
		return "StartDegraded"
	default:
		return fmt.Sprintf("StartPolicy(%d)", int(p))
	}
}

// TLSFiles names PEM files that complete a pool's TLS. Empty names leave to TLS, or to what the
// address says, what they would have said. Each must be a regular file of at most 1 MiB.
type TLSFiles struct {
	CA   string // authorities that the server's certificate must come from; empty: those of TLS, or of the system
	Cert string // certificate that is shown to the server; empty: that of TLS, or none
	Key  string // its key
}
