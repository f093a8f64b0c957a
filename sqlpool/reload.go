package sqlpool

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/event"
	"github.com/poolkeeper/poolkeeper/internal/fleet"
	"github.com/poolkeeper/poolkeeper/internal/onfile"
	"github.com/poolkeeper/poolkeeper/internal/rotation"
	"github.com/poolkeeper/poolkeeper/internal/settings"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/fault"
)

// target says how connections are opened: what URL, TLS, Credentials and Configure come
// down to. Each backend has its own.
type target any

// plan says what a reload with next would change, and refuses what cannot change while the pool
// lives. next has its defaults.
func (c *core) plan(next *config) ([]poolkeeper.Change, error) {
	out := settings.Diff(c.cfg(), next, "URL")
	var errs []error
	for i, ch := range out {
		switch ch.Field {
		case "ConfigurePostgres", "ConfigureMySQL":
			out[i].Field = "Configure" // as the user knows it
		case "Name", "Start":
			errs = append(errs, fmt.Errorf("sqlpool: %s cannot change while the pool lives (%s, wanted %s)", ch.Field, ch.From, ch.To))
		case "MaxOpenCeiling":
			errs = append(errs, fmt.Errorf("sqlpool: MaxOpenCeiling is fixed when the pool is made (%s, wanted %s)", ch.From, ch.To))
		}
	}
	if ceiling := c.cfg().MaxOpenCeiling; ceiling > 0 && next.MaxOpen > ceiling {
		errs = append(errs, fmt.Errorf("sqlpool: MaxOpen %d is above MaxOpenCeiling, %d: pgxpool cannot grow beyond it", next.MaxOpen, ceiling))
	}
	return out, errors.Join(errs...)
}

// leads reports whether a change affects the address or the user of new connections. Connections
// that are open already then differ from new ones.
func leads(ch poolkeeper.Change) bool {
	switch ch.Field {
	case "URL", "TLS", "TLSFiles", "Credentials", "CredentialsFile", "Configure":
		return true
	default:
		return false
	}
}

// staged is a configuration that has been found possible, and not been put in effect.
type staged struct {
	on   disk
	aim  target
	next config // with defaults
	list []poolkeeper.Change
}

// stage finds out what a reload with wanted would change. It changes nothing, and does not dial.
func (c *core) stage(wanted config) (staged, error) {
	if wanted.Name == "" {
		wanted.Name = c.cfg().Name
	}
	s := staged{on: wanted.readFiles()}
	var err error
	if s.aim, s.next, err = c.back.aim(wanted, s.on); err != nil {
		return s, err
	}
	if wanted.MaxOpenCeiling == 0 {
		s.next.MaxOpenCeiling = c.cfg().MaxOpenCeiling
	}
	s.next = *c.within(&s.next, &wanted)
	s.list, err = c.plan(&s.next)
	if wanted.files() == c.cfg().files() { // the names are; what they hold may not be
		s.list = append(s.list, onfile.Differ(*c.disk.Load(), s.on.Contents)...)
	}
	return s, err
}

// planned is stage for Plan, which changes nothing.
func (c *core) planned(wanted config) ([]poolkeeper.Change, error) {
	s, err := c.stage(wanted)
	if err != nil {
		return s.list, fmt.Errorf("sqlpool: plan for %q: %w", c.poolName(), err)
	}
	return s.list, nil
}

// reload replaces the configuration. Nothing is touched before all of it has been accepted and, if
// it leads elsewhere, a connection has been opened and checked by it; if a check fails afterwards,
// the old one is put back.
func (c *core) reload(ctx context.Context, wanted config) error {
	if err := c.state.Turn(ctx); err != nil {
		return fmt.Errorf("sqlpool: reload %q: %w", c.poolName(), err)
	}
	defer c.state.EndTurn()
	list, err := c.replace(ctx, wanted)
	switch {
	case err != nil:
		c.events.Emit(event.OfReloadRefused(err))
	case len(list) > 0:
		c.events.Emit(event.OfReload(list))
		if slices.ContainsFunc(list, fleet.Concerns) {
			c.warnOfLimits(ctx)
		}
	}
	return err
}

// replace puts wanted in effect and returns what has changed. It needs the turn to reload.
func (c *core) replace(ctx context.Context, wanted config) ([]poolkeeper.Change, error) {
	name := c.poolName()
	s, err := c.stage(wanted)
	if err != nil {
		return nil, fmt.Errorf("sqlpool: reload %q: nothing was changed: %w", name, err)
	}
	on, aim, next, list := s.on, s.aim, s.next, s.list
	if len(list) == 0 {
		return nil, nil
	}
	elsewhere := slices.ContainsFunc(list, leads)
	if elsewhere {
		if err := c.tryTarget(ctx, aim, &next); err != nil {
			return nil, fmt.Errorf("sqlpool: reload %q: nothing was changed: %w", name, fault.Wrap(err))
		}
	}
	if err := c.switchTo(ctx, aim, &next, elsewhere); err != nil {
		return nil, err
	}
	c.disk.Store(&on.Contents)
	c.asked = &on.asked
	return list, nil
}

// tryTarget opens a connection and closes it. It ends with the pool's life; shut waits for it.
func (c *core) tryTarget(ctx context.Context, aim target, cfg *config) error {
	c.work.Begin()
	defer c.work.End()
	ctx, cancel := context.WithTimeout(ctx, cfg.DialTimeout)
	defer cancel()
	defer context.AfterFunc(c.life, cancel)() //nolint:contextcheck // two lives bound it
	return c.back.try(ctx, aim, cfg)
}

func (c *core) switchTo(ctx context.Context, aim target, next *config, elsewhere bool) error {
	oldAim, old := c.back.current(), c.cfg()
	c.put(ctx, aim, next, elsewhere)
	if !elsewhere {
		return nil
	}
	check, cancel := context.WithTimeout(ctx, next.DialTimeout)
	defer cancel()
	if err := c.back.check(check); err != nil {
		c.put(ctx, oldAim, old, true)
		return fmt.Errorf("sqlpool: reload %q: the check failed, and the old configuration is back: %w", c.poolName(), fault.Wrap(err))
	}
	return nil
}

// put makes a configuration the one in effect.
func (c *core) put(ctx context.Context, aim target, cfg *config, elsewhere bool) {
	c.conf.Store(cfg)
	c.logins.Store(new(rotation.Watch))
	c.held.SetStacks(!cfg.DisableLeakStacks)
	c.watchAnew(cfg)
	c.back.use(ctx, aim, cfg, elsewhere)
	if c.evictor != nil {
		_ = c.evictor.SetPolicy(cfg.policy()) // Validate has accepted every part of it
	}
	if elsewhere {
		c.breaker.Answer() // the server that is down, if any, was another, or is back: the reload has tried this one
		c.reset(poolkeeper.EvictedReload)
	} else {
		c.back.flush() // what is too many, or too old now
	}
}
