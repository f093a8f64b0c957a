package grpcclient

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/event"
	"github.com/poolkeeper/poolkeeper/internal/life"
	"github.com/poolkeeper/poolkeeper/internal/plural"
)

// Start connects, and waits until the server answers, at most until ctx ends: gRPC tries again by
// itself. A server that answers and is not serving is an error at once. A failed Start may be repeated.
func (c *Client) Start(ctx context.Context) error {
	return c.state.Start(ctx, func(ctx context.Context) error {
		c.conn.Connect()
		return c.ask(ctx, grpc.WaitForReady(true))
	}, func() { c.watching.Go(c.watch) })
}

// Check asks the server by gRPC's health protocol, for the service "". A server without that protocol
// is healthy if it can be reached. It blocks at most until ctx ends.
func (c *Client) Check(ctx context.Context) error { return c.ask(ctx) }

func (c *Client) ask(ctx context.Context, opts ...grpc.CallOption) error {
	ctx = context.WithValue(ctx, ownCall{}, true)
	answer, err := healthpb.NewHealthClient(c.conn).Check(ctx, &healthpb.HealthCheckRequest{}, opts...)
	switch {
	case status.Code(err) == codes.Unimplemented:
		return nil
	case err != nil:
		return fmt.Errorf("grpcclient: check %q: %w", c.state.Name(), err)
	case answer.GetStatus() != healthpb.HealthCheckResponse_SERVING:
		return fmt.Errorf("grpcclient: check %q: the server says %s", c.state.Name(), answer.GetStatus())
	}
	return nil
}

func (c *Client) ready() bool { return c.conn.GetState() == connectivity.Ready }

// watch follows the state of the connection. Owner: the client; Stop ends its context and waits for it.
func (c *Client) watch() {
	for at := c.conn.GetState(); ; at = c.conn.GetState() {
		c.note(at)
		if !c.conn.WaitForStateChange(c.life, at) {
			return
		}
	}
}

// note emits an event when the server is lost, and when it is back. It does not see an outage that is
// over at once.
func (c *Client) note(at connectivity.State) {
	switch at {
	case connectivity.TransientFailure:
		if now := time.Now(); c.downSince.CompareAndSwap(nil, &now) {
			c.events.Emit(event.OfDown(now, errLost))
		}
	case connectivity.Ready:
		if since := c.downSince.Swap(nil); since != nil {
			c.events.Emit(event.OfUp(time.Since(*since)))
		}
	case connectivity.Idle:
		if c.downSince.Load() != nil { // gRPC would wait for a call; its back-off bounds the attempts
			c.conn.Connect()
		}
	case connectivity.Connecting, connectivity.Shutdown:
	}
}

// errLost is the error of the event down: gRPC gives the reason to calls only.
var errLost = errors.New("no connection can be opened; the errors of calls say why")

// Drain refuses new calls from now on and waits for those in flight, at most until ctx ends. A stream
// is in flight until it ends: cancel the context of a stream that goes on for ever when the service
// drains.
func (c *Client) Drain(ctx context.Context) error {
	c.closeGate()
	if err := c.gate.Wait(ctx); err != nil {
		return fmt.Errorf("grpcclient: drain %q: %s still in flight: %w",
			c.state.Name(), plural.Of(c.gate.InFlight(), "call"), err)
	}
	return nil
}

func (c *Client) closeGate() {
	c.state.Enter(life.Draining)
	c.gate.Close()
}

// Stop drains and closes the connection. When ctx ends it cuts the calls that are left, and returns a
// [poolkeeper.HeldError] that names their callers. It may be called without Start, more than once and
// concurrently.
func (c *Client) Stop(ctx context.Context) error { return c.state.Stop(ctx, c.shutDown) }

// Abort is a Stop that does not wait for calls.
func (c *Client) Abort() error { return c.state.Abort(c.shutDown) }

func (c *Client) shutDown(ctx context.Context, started <-chan struct{}) error {
	c.closeGate()
	var errs []error
	if !life.Closed(ctx, started) {
		errs = append(errs, errors.New("a Start is still under way"))
	}
	settled := c.gate.Wait(ctx)
	now, late := time.Now(), c.held.List()
	c.state.Enter(life.Stopping)
	c.end()
	errs = append(errs, c.conn.Close(), c.watching.Wait(context.WithoutCancel(ctx))) // it ends with its context
	if settled != nil {
		return &poolkeeper.HeldError{
			Pool: c.state.Name(), Cut: 1, Holders: late, Time: now, Err: errors.Join(append(errs, context.Cause(ctx))...),
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("grpcclient: stop %q: %w", c.state.Name(), err)
	}
	return nil
}
