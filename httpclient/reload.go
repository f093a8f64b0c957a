package httpclient

import (
	"context"
	"fmt"
	"slices"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/event"
	"github.com/poolkeeper/poolkeeper/internal/life"
	"github.com/poolkeeper/poolkeeper/internal/monotime"
	"github.com/poolkeeper/poolkeeper/internal/onfile"
	"github.com/poolkeeper/poolkeeper/internal/settings"
)

// Plan returns the changes that Reload with cfg would make, one for each field. The error is the one
// that Reload would return without asking a server. Plan dials nothing.
func (c *Client) Plan(cfg Config) ([]poolkeeper.Change, error) {
	s, err := c.stage(cfg)
	if err != nil {
		return s.changes, fmt.Errorf("httpclient: plan for %q: %w", c.state.Name(), err)
	}
	return s.changes, nil
}

// Reload replaces the configuration while requests run. If BaseURL, TLS, TLSFiles, DialContext or
// Proxy change, it checks the server first and changes nothing if the server does not answer. Of
// several Hosts, one has to answer. If only Hosts change, it checks the new ones. Requests in flight
// end as they began; their connections are closed afterwards. Name, Wrap and Start are fixed. It
// blocks as Check does, at most until ctx ends.
func (c *Client) Reload(ctx context.Context, cfg Config) error {
	s, err := c.prepare(ctx, cfg)
	if err == nil {
		s.commit()
	}
	return err
}

// Reset replaces every connection: idle ones now, those in use once their requests are over. It does
// not block.
func (c *Client) Reset() {
	c.switching.Lock()
	cfg, open := c.config(), 0
	for _, e := range c.endpoints() {
		open += e.host.conns.len()
		e.host.newEndpoint(cfg, e.target).switchTo()
	}
	c.switching.Unlock()
	c.generation.Add(1)
	c.events.Emit(event.OfReset(event.OnRequest, open, nil))
}

// staged is a configuration that can be put in effect.
type staged struct {
	c       *Client
	given   Config
	cfg     Config // with defaults
	target  target
	changes []poolkeeper.Change
	leads   bool // the server, or the way to it, changes
	hosts   bool // Hosts change

	next, asked []*endpoint // all, and those that were asked
	began       monotime.Time
	errs        []error // of asked
}

// stage returns what a reload with cfg would change.
func (c *Client) stage(cfg Config) (staged, error) {
	if cfg.Name == "" {
		cfg.Name = c.config().Name
	}
	cfg.Hosts = slices.Clone(cfg.Hosts)
	t, err := cfg.resolve()
	if err != nil {
		return staged{}, err
	}
	s := staged{c: c, given: cfg, cfg: cfg.withDefaults(), target: t}
	s.changes = changes(c.asked.Load(), &cfg)
	for _, d := range onfile.Differ(c.endpoints()[0].disk, t.disk) {
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
		case "Hosts":
			s.hosts = true
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

// prepare begins the change to cfg and checks whether it can be put in effect. After a nil error the
// caller must commit or drop it.
func (c *Client) prepare(ctx context.Context, cfg Config) (*staged, error) {
	if err := c.state.BeginChange(ctx); err != nil {
		return nil, fmt.Errorf("httpclient: reload %q: %w", c.state.Name(), err)
	}
	s, err := c.stage(cfg)
	if err == nil && len(s.changes) > 0 {
		err = s.ask(ctx)
	}
	if err == nil {
		return &s, nil
	}
	c.state.EndChange()
	err = fmt.Errorf("httpclient: reload %q: nothing was changed: %w", c.state.Name(), err)
	c.events.Emit(event.OfReloadRefused(err))
	return nil, err
}

// ask makes the endpoints and checks the new hosts. If s.leads it checks all of them.
func (s *staged) ask(ctx context.Context) error {
	c := s.c
	known := map[string]*host{}
	for _, h := range c.rotation.Load().all {
		known[h.addr] = h
	}
	for _, addr := range s.cfg.addresses() {
		h := known[addr]
		if h == nil {
			h = c.newHost(addr)
		}
		e := h.newEndpoint(&s.cfg, s.target)
		s.next = append(s.next, e)
		if s.leads || s.hosts && known[addr] == nil {
			s.asked = append(s.asked, e)
		}
	}
	if len(s.asked) == 0 {
		return nil
	}
	s.began = monotime.Now()
	s.errs = c.askAll(ctx, s.asked)
	if c.life.Err() != nil {
		return poolkeeper.ErrClosed
	}
	return someAnswer(s.errs)
}

// drop ends the change without effect.
func (s *staged) drop() { s.c.state.EndChange() }

// commit puts s in effect, and ends the change.
func (s *staged) commit() {
	c := s.c
	defer c.state.EndChange()
	if len(s.changes) == 0 {
		return
	}
	c.replaceHosts(&s.cfg, s.next)
	c.held.SetStacks(!s.cfg.DisableLeakStacks)
	c.rewatch(&s.cfg)
	for i, e := range s.asked {
		e.host.breaker.Failed(s.began, s.errs[i])
	}
	c.expiring.Renewed()
	c.asked.Store(&s.given)
	c.events.Emit(event.OfReload(s.changes))
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
