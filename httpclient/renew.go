package httpclient

import (
	"context"
	"fmt"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/event"
	"github.com/poolkeeper/poolkeeper/internal/onfile"
)

// lookAtFiles uses the certificates of TLSFiles if they have changed and the server accepts them.
func (c *Client) lookAtFiles() {
	if !c.state.TryBeginChange() {
		return // a Reload reads the files too
	}
	defer c.state.EndChange()
	changed, err := c.renew()
	trouble := ""
	if err != nil {
		trouble = err.Error()
	}
	switch {
	case c.life.Err() != nil:
	case trouble != "" && trouble != c.renewal:
		c.events.Emit(event.OfRenewalRefused(err))
	case len(changed) > 0:
		c.events.Emit(event.OfRenewal(changed))
	}
	c.renewal = trouble
}

// renew puts what the files hold in effect, if it is new and the server accepts it.
func (c *Client) renew() ([]poolkeeper.Change, error) {
	cfg, was := c.config(), c.endpoint.Load()
	now, err := onfile.Read("httpclient: ", cfg.files())
	if err != nil || now == was.disk {
		return nil, err
	}
	next := c.newEndpoint(cfg, target{base: was.base, disk: now})
	ctx, cancel := context.WithTimeout(c.life, cfg.patience())
	defer cancel()
	if err := c.ask(ctx, next); err != nil {
		return nil, fmt.Errorf("the server does not accept it, and the old is kept: %w", err)
	}
	c.endpoint.Store(next)
	c.met.generation.Add(1)
	was.retire()
	return onfile.Differ(was.disk, now), nil
}
