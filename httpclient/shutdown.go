package httpclient

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/life"
	"github.com/poolkeeper/poolkeeper/internal/plural"
)

// cutGrace is how long after its deadline a Stop closes what it has cut off.
const cutGrace = 100 * time.Millisecond

// Drain refuses new requests from now on and waits for those in flight, until their responses are
// read to the end or closed. It blocks until ctx ends.
func (c *Client) Drain(ctx context.Context) error {
	c.closeGate()
	if err := c.gate.Wait(ctx); err != nil {
		return fmt.Errorf("httpclient: drain %q: %s still in flight: %w",
			c.state.Name(), plural.Of(c.gate.InFlight(), "request"), err)
	}
	return nil
}

func (c *Client) closeGate() {
	c.state.Enter(life.Draining)
	c.gate.Close()
}

// Stop drains and closes every connection. When ctx ends it cuts the requests that are left, and
// returns a [poolkeeper.HeldError] that names their callers. It may be called without Start, more
// than once and concurrently.
func (c *Client) Stop(ctx context.Context) error { return c.state.Stop(ctx, c.shutDown) }

// Abort is a Stop that does not wait for requests.
func (c *Client) Abort() error { return c.state.Abort(c.shutDown) }

func (c *Client) shutDown(ctx context.Context, started <-chan struct{}) error {
	c.closeGate()
	var errs []error
	if !life.Closed(ctx, started) {
		errs = append(errs, errors.New("a Start is still under way"))
	}
	c.stopWatches()
	settled := c.gate.Wait(ctx)
	c.state.Enter(life.Stopping)
	if settled == nil {
		errs = append(errs, c.close(ctx))
		if err := errors.Join(errs...); err != nil {
			return fmt.Errorf("httpclient: stop %q: %w", c.state.Name(), err)
		}
		return nil
	}
	now, late := time.Now(), c.held.List()
	var cut, waiting int
	for _, h := range c.allHosts() {
		cut, waiting = cut+int(h.conns.inUse.Load()), waiting+int(h.met.waiting.Load())
	}
	c.cutAll()
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), cutGrace)
	defer cancel()
	_ = c.close(grace)
	return &poolkeeper.HeldError{
		Pool: c.state.Name(), Cut: cut, Waiting: waiting, Holders: late, Time: now, Err: errors.Join(append(errs, context.Cause(ctx))...),
	}
}

// cutAll ends every request in flight. The gate refuses those that begin now.
func (c *Client) cutAll() {
	for _, h := range c.allHosts() {
		h.conns.over.Store(true)
	}
	c.mu.Lock()
	c.cut = true
	c.mu.Unlock()
	for _, x := range c.exchanges() {
		x.cancel(errCut)
	}
}

// close ends trials and closes every connection.
func (c *Client) close(ctx context.Context) error {
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), cutGrace)
	defer cancel()
	if ctx.Err() == nil {
		grace = ctx
	}
	var errs []error
	for _, h := range c.allHosts() {
		errs = append(errs, h.breaker.Stop(grace))
		h.conns.over.Store(true)
		h.endpoint.Load().native.CloseIdleConnections()
		h.conns.closeAll()
	}
	c.limits.stop()
	return errors.Join(errs...)
}

// allHosts returns the hosts, and the dismissed hosts that may have requests in flight.
func (c *Client) allHosts() []*host {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Concat(c.rotation.Load().all, c.former)
}

// stopWatches ends the client's own work.
func (c *Client) stopWatches() {
	c.end() // a look at files may be waiting for the server
	c.mu.Lock()
	watches := c.watches
	c.mu.Unlock()
	for _, w := range watches {
		w.Stop() // waits for a look under way
	}
}
