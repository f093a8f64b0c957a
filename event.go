package poolkeeper

import (
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"
)

// EventKind names what happened to a pool, in one word to filter and alert by. All pools use the same
// kinds.
type EventKind string

// Kinds of an [Event].
const (
	EventDown           EventKind = "down"            // the server is down: callers fail at once
	EventUp             EventKind = "up"              // the server is back
	EventStartFailed    EventKind = "start-failed"    // an attempt of Start failed, and the StartPolicy continues
	EventReset          EventKind = "reset"           // connections are replaced
	EventPaused         EventKind = "paused"          // callers wait until Resume
	EventResumed        EventKind = "resumed"         // callers continue
	EventReloaded       EventKind = "reloaded"        // a new configuration is in effect
	EventReloadRefused  EventKind = "reload-refused"  // a new configuration was rejected; the old one stays in effect
	EventRenewed        EventKind = "renewed"         // new credentials or certificates are in effect
	EventRenewalRefused EventKind = "renewal-refused" // new credentials or certificates were rejected; the old ones stay in use
	EventExpiry         EventKind = "expiry"          // a certificate or a credential expires soon, or has expired
	EventLimits         EventKind = "limits"          // the server's limits do not fit the configuration
	EventPooler         EventKind = "pooler"          // a pooler such as pgbouncer stands before the server
	EventLeak           EventKind = "leak"            // a connection is held for longer than LeakThreshold
	EventReclaimed      EventKind = "reclaimed"       // a connection was taken away from its holder
	EventMemberLost     EventKind = "member-lost"     // a replica, or a node of a Cluster, is out of use
	EventMemberBack     EventKind = "member-back"     // a replica, or a node of a Cluster, is in use again
	EventMemberIsolated EventKind = "member-isolated" // a replica, node or host serves worse than the others: see Isolation
	EventMemberTrial    EventKind = "member-trial"    // an isolated replica, node or host gets a part of the traffic again
	EventMisuse         EventKind = "misuse"          // the service works against the pool
	EventPanic          EventKind = "panic"           // code of the service panicked on a goroutine of the pool
	EventTrouble        EventKind = "trouble"         // the pool could not do a part of its own work
)

// Event describes a change of a pool, or of a server that renews its certificate. The pool logs each
// event, and passes it to its subscribers with the same words and attributes.
//
// An Event does not change after it was delivered. No field holds a secret.
type Event struct {
	Time time.Time
	// Pool is the name of the pool.
	Pool string
	Kind EventKind
	// Level is the level of the log line.
	Level slog.Level
	// Text is a sentence without numbers: "the server is back".
	Text string
	// Err is the cause. It is nil if nothing failed.
	Err error
	// Cause is the class of Err, as in health.Kind. Advice says what to look at first. Both are empty
	// if Err has no known class.
	Cause, Advice string
	// Holder is the caller that holds the connection: of EventLeak, EventReclaimed, and EventMisuse
	// by a response that was not read. Other events have none.
	Holder *Holder
	// Skipped counts the events of this kind that were left out before this one. Of each kind a pool
	// passes on five events at once, and then one a minute.
	Skipped int
	// Attrs are the numbers, with the keys of the log line.
	Attrs []slog.Attr
}

// String returns the event in one sentence, with the name of the pool and the error.
func (e Event) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", strconv.Quote(e.Pool), e.Text)
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	return b.String()
}
