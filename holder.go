package poolkeeper

import (
	"fmt"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/callsite"
)

// Kinds of a [Holder].
const (
	KindConn    = "conn"    // a connection taken out of the pool for its holder alone
	KindTx      = "tx"      // an open transaction
	KindRows    = "rows"    // a result set that has not been closed
	KindPubSub  = "pubsub"  // a subscription
	KindWatch   = "watch"   // an optimistic transaction between WATCH and EXEC
	KindRequest = "request" // an HTTP request until its response is read or closed, or a gRPC call
)

// Holder describes a caller that holds a connection now. It is a value: nothing in it changes after
// it was returned.
type Holder struct {
	// Kind says what is held: one of the Kind constants.
	Kind string
	// Since is when it was taken.
	Since time.Time
	// Stack is where it was taken, one "function (file:line)" per line, innermost first, without
	// the frames of poolkeeper, of the driver and of database/sql. Empty where it cannot be known
	// or was turned off.
	Stack string
}

// Describe names the holder in a few words, with its age at that time: "tx for 41s by
// api.(*Handler).List (list.go:88)".
func (h Holder) Describe(at time.Time) string {
	return fmt.Sprintf("%s for %s by %s", h.Kind, at.Sub(h.Since).Round(time.Millisecond), callsite.Of(h.Stack))
}
