package httpclient

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/acquire"
	"github.com/poolkeeper/poolkeeper/internal/life"
)

// Stage is a part of a request that has a limit of its own.
type Stage string

// Stages of a request, in their order.
const (
	StageDial    Stage = "dial"          // opening the TCP connection: DialTimeout
	StageTLS     Stage = "TLS"           // the TLS handshake: TLSTimeout
	StageHeader  Stage = "header"        // from the request written to the response's header: HeaderTimeout
	StageBody    Stage = "body"          // one wait for more of the response's body: BodyTimeout
	StageRequest Stage = "whole request" // all of it: RequestTimeout
)

// TimeoutError says which limit of a client ended a request. It matches context.DeadlineExceeded, and
// its Timeout is true. The wait for a connection ends with a [poolkeeper.AcquireError] instead.
type TimeoutError struct {
	Client string
	Stage  Stage
	Limit  time.Duration
	Err    error // of the transport; may be nil
}

// Error names the client, the stage and its limit.
func (e *TimeoutError) Error() string {
	what := map[Stage]string{
		StageDial:    "no TCP connection within DialTimeout",
		StageTLS:     "no TLS handshake within TLSTimeout",
		StageHeader:  "no response header within HeaderTimeout",
		StageBody:    "no more of the response's body within BodyTimeout",
		StageRequest: "the request was not over within RequestTimeout",
	}[e.Stage]
	return fmt.Sprintf("httpclient: %q: %s, %s", e.Client, what, e.Limit)
}

// Unwrap returns context.DeadlineExceeded and Err.
func (e *TimeoutError) Unwrap() []error { return []error{context.DeadlineExceeded, e.Err} }

// Timeout is true, as net.Error has it.
func (e *TimeoutError) Timeout() bool { return true }

// HostError says that a request was refused because it leaves BaseURL.
type HostError struct {
	Client  string
	Host    string // of the request
	Allowed string // scheme and host of BaseURL
}

// Error names both hosts.
func (e *HostError) Error() string {
	return fmt.Sprintf("httpclient: %q: a request of %q is refused; BaseURL is %s", e.Client, e.Host, e.Allowed)
}

// StatusError is the error of a health check whose answer has an unhealthy status.
type StatusError struct {
	Client string
	Status int // such as 503
}

// Error names the client and the status.
func (e *StatusError) Error() string {
	return fmt.Sprintf("httpclient: check %q: the server answers with status %d", e.Client, e.Status)
}

// HealthFault makes health.Classify know it.
func (e *StatusError) HealthFault() health.Fault {
	switch e.Status {
	case 401:
		return health.FaultOf(health.KindAuthentication)
	case 403:
		return health.FaultOf(health.KindAuthorization)
	case 404:
		return health.FaultOf(health.KindNotFound)
	case 429:
		return health.FaultOf(health.KindResources)
	case 503:
		return health.FaultOf(health.KindResources)
	default:
		return health.FaultOf(health.KindProtocol)
	}
}

var (
	errWrap = errors.New("httpclient: Wrap returned nil; it must return a RoundTripper")
	errCut  = fmt.Errorf("httpclient: cut off at Stop: %w", poolkeeper.ErrClosed)
	errDone = errors.New("httpclient: the response is closed") // ends the context of a request that is over
)

// refusal is the error for a request that begins after the gate was closed.
func (c *Client) refusal() error {
	return fmt.Errorf("poolkeeper: acquire from %q: %w", c.state.Name(), max(c.state.At(), life.Draining).Refusal())
}

// acquireError says why a request did not get a connection.
func (h *host) acquireError(waited time.Duration, cause error) error {
	s := h.stats()
	return &poolkeeper.AcquireError{
		Pool: h.name(), Max: h.c.config().MaxOpen, InUse: s.InUse, Waiting: max(s.Waiting-1, 0), Dialing: s.Dialing,
		Oldest: h.c.held.Oldest(), Waited: waited, Time: time.Now(), Err: cause,
	}
}

// tooManyWaiting refuses a request because of MaxWaiting.
func (h *host) tooManyWaiting() error {
	h.met.refused.Add(1)
	return h.acquireError(0, acquire.Refused(h.c.config().MaxWaiting))
}
