package httpclient

import (
	"context"
	"fmt"
	"slices"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/event"
	"github.com/poolkeeper/poolkeeper/internal/life"
	"github.com/poolkeeper/poolkeeper/internal/onfile"
	"github.com/poolkeeper/poolkeeper/internal/settings"
)

// Plan says what Reload with cfg would change, a field each, and returns the error it would return
// before it changes anything. It dials nothing.
func (c *Client) Plan(cfg Config) ([]poolkeeper.Change, error) {
	s, err := c.stage(cfg)
	if err != nil {
		return s.changes, fmt.Errorf("httpclient: plan for %q: %w", c.state.Name(), err)
	}
	return s.changes, nil
}

// Reload replaces the configuration while requests run. If BaseURL, TLS or TLSFiles change, the new
// server is checked first, and nothing is changed if it does not answer. Requests in flight end as
// they began; their connections are closed afterwards. Name, Wrap and Start are fixed. It blocks as
// Check does, at most until ctx ends.
func (c *Client) Reload(ctx context.Context, cfg Config) error {
	if err := c.state.BeginChange(ctx); err != nil {
		return fmt.Errorf("httpclient: reload %q: %w", c.state.Name(), err)
	}
	defer c.state.EndChange()
	s, err := c.stage(cfg)
	if err == nil && len(s.changes) > 0 {
		err = c.switchTo(ctx, s)
	}
	switch {
	case err != nil:
		err = fmt.Errorf("httpclient: reload %q: nothing was changed: %w", c.state.Name(), err)
		c.events.Emit(event.OfReloadRefused(err))
	case len(s.changes) > 0:
		c.asked.Store(&cfg)
		c.events.Emit(event.OfReload(s.changes))
	}
	return err
}

// Reset replaces every connection: idle ones now, those in use once their requests are over. It does
// not block.
func (c *Client) Reset() {
	open := c.conns.len()
	old := c.endpoint.Swap(c.newEndpoint(c.config(), c.endpoint.Load().target))
	c.met.generation.Add(1)
	old.retire()
	c.events.Emit(event.OfReset(event.OnRequest, open, nil))
}

// staged is a configuration that can be put in effect.
type staged struct {
	cfg     Config // with defaults
	target  target
	changes []poolkeeper.Change
	leads   bool // it leads elsewhere, or by other certificates
}

// stage finds out what a reload with cfg would change.
func (c *Client) stage(cfg Config) (staged, error) {
	if cfg.Name == "" {
		cfg.Name = c.config().Name
	}
	t, err := cfg.resolve()
	if err != nil {
		return staged{}, err
	}
	s := staged{cfg: cfg.withDefaults(), target: t}
	s.changes = changes(c.asked.Load(), &cfg)
	for _, d := range onfile.Differ(c.endpoint.Load().disk, t.disk) {
		if !slices.ContainsFunc(s.changes, func(o poolkeeper.Change) bool { return o.Field == d.Field }) {
			s.changes = append(s.changes, d)
		}
	}
	for _, ch := range s.changes {
		switch ch.Field {
		case "Name", "Wrap", "Start":
			return s, fmt.Errorf("httpclient: %s is fixed when the client is made", ch.Field)
		case "BaseURL", "TLS", "TLSFiles", "DialContext", "Proxy":
			s.leads = true
		}
	}
	return s, nil
}

// changes compares two configurations, defaults included.
func changes(from, to *Config) []poolkeeper.Change {
	a, b := from.withDefaults(), to.withDefaults()
	a.DialContext, b.DialContext = from.DialContext, to.DialContext // the default is another function each time
	a.Proxy, b.Proxy = from.Proxy, to.Proxy
	if to.Name == "" {
		b.Name = a.Name
	}
	return settings.Diff(&a, &b)
}

// switchTo puts s in effect. It has been staged, and the change has begun.
func (c *Client) switchTo(ctx context.Context, s staged) error {
	next := c.newEndpoint(&s.cfg, s.target)
	if s.leads {
		bounded, cancel := context.WithTimeout(ctx, s.cfg.patience())
		defer cancel()
		if err := c.ask(bounded, next); err != nil {
			return err
		}
	}
	c.live.Store(&s.cfg)
	old := c.endpoint.Swap(next)
	c.met.generation.Add(1)
	old.retire()
	c.held.SetStacks(!s.cfg.DisableLeakStacks)
	c.rewatch(&s.cfg)
	return nil
}

// rewatch replaces the watches by those of cfg.
func (c *Client) rewatch(cfg *Config) {
	next := c.watchesFor(cfg)
	c.mu.Lock()
	old := c.watches
	c.watches = next
	if c.state.At() == life.Running {
		for _, w := range next {
			w.Start()
		}
	}
	c.mu.Unlock()
	for _, w := range old {
		w.Stop()
	}
}
