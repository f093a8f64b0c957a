package streams

import (
	"errors"
	"fmt"
	"time"

	"github.com/coder/websocket"

	"github.com/poolkeeper/poolkeeper"
)

// ending is how a stream ends. The first one counts, but for cut: what closes politely can still be
// cut off.
type ending struct {
	reason  string // the key of StreamStats.Ended
	cause   error  // of the contexts that end with the stream
	polite  bool   // the peer gets what is in the buffer, and is told
	discard bool   // but not what is in the buffer

	code  websocket.StatusCode // of the close message
	text  string               // of the close message, and of an SSE client's last event
	retry time.Duration        // after which an SSE client is told to reconnect; 0: it is told nothing
}

// Why streams end: the keys of StreamStats.Ended.
const (
	reasonDone    = "done"    // the handler has returned
	reasonFailed  = "failed"  // the handler has returned an error
	reasonPanic   = "panic"   // the handler has panicked
	reasonPeer    = "peer"    // the client has closed it, or its connection broke
	reasonDead    = "dead"    // the client did not answer for PongWait
	reasonSlow    = "slow"    // its buffer was full
	reasonTimeout = "timeout" // the client took no bytes for WriteTimeout
	reasonAge     = "age"     // MaxAge
	reasonDrain   = "drain"   // the hub drains
	reasonCut     = "cut"     // the hub's time for draining was over
)

//nolint:gochecknoglobals // a constant table
var reasons = [...]string{
	reasonDone, reasonFailed, reasonPanic, reasonPeer, reasonDead, reasonSlow, reasonTimeout, reasonAge, reasonDrain, reasonCut,
}

// The causes with which the contexts of handlers end.
var (
	errDrained = fmt.Errorf("%s: the hub is shutting down: %w", pkg, poolkeeper.ErrDraining)
	errDone    = errors.New(pkg + ": the handler has returned")
	errAge     = errors.New(pkg + ": the stream is older than MaxAge")
	errSlow    = errors.New(pkg + ": the client reads too slowly: the buffer of its stream is full")
	errDead    = errors.New(pkg + ": the client has sent nothing for PongWait")
	errCut     = fmt.Errorf("%s: the stream was cut off: %w", pkg, poolkeeper.ErrClosed)
)

//nolint:gochecknoglobals // constant tables
var (
	endSlow = ending{
		reason: reasonSlow, cause: errSlow, polite: true, discard: true,
		code: websocket.StatusPolicyViolation, text: "too slow",
	}
	endDead = ending{reason: reasonDead, cause: errDead}
	endCut  = ending{reason: reasonCut, cause: errCut}
	endDone = ending{reason: reasonDone, cause: errDone, polite: true, code: websocket.StatusNormalClosure}
)

// endDrained tells a client to come back, after retry if it is an SSE client.
func endDrained(retry time.Duration) ending {
	return ending{
		reason: reasonDrain, cause: errDrained, polite: true,
		code: websocket.StatusGoingAway, text: "going away", retry: retry,
	}
}

func endAged(retry time.Duration) ending {
	return ending{
		reason: reasonAge, cause: errAge, polite: true,
		code: websocket.StatusGoingAway, text: "reconnect", retry: retry,
	}
}

// endLost is the end of a stream whose connection failed or was closed by its peer.
func endLost(err error) ending {
	reason := reasonPeer
	if t, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err); ok && t.Timeout() {
		reason = reasonTimeout
	}
	return ending{reason: reason, cause: fmt.Errorf("%s: the connection is lost: %w", pkg, err)}
}

// endFailed is the end of a stream whose handler has failed. A websocket.CloseError says what the
// peer is told; other errors are not for its eyes.
func endFailed(reason string, err error) ending {
	e := ending{reason: reason, cause: err, polite: true, code: websocket.StatusInternalError, text: "internal error"}
	if said, ok := errors.AsType[websocket.CloseError](err); ok && reason == reasonFailed {
		e.code, e.text = said.Code, said.Reason
	}
	return e
}
