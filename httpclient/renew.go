package httpclient

import (
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
	defer c.warnOfExpiries()
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
	cfg, was := c.config(), c.endpoints()
	disk := was[0].disk
	now, err := onfile.Read("httpclient: ", cfg.files())
	if err != nil || now == disk {
		return nil, err
	}
	next := make([]*endpoint, len(was))
	for i, e := range was {
		next[i] = e.host.newEndpoint(cfg, target{base: e.base, disk: now})
	}
	if err := someAnswer(c.askAll(c.life, next)); err != nil {
		return nil, fmt.Errorf("the server does not accept it, and the old is kept: %w", err)
	}
	c.switching.Lock()
	for _, e := range next {
		e.switchTo()
	}
	c.switching.Unlock()
	c.generation.Add(1)
	c.expiring.Renewed()
	return onfile.Differ(disk, now), nil
}
