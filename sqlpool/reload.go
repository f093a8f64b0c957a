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

// plan says what a reload with next would change, and refuses what cannot change while the pool
// lives. next has its defaults.
func (m *manager) plan(next *config) ([]poolkeeper.Change, error) {
	out := settings.Diff(m.cfg(), next, "URL")
	var errs []error
	for i, ch := range out {
		switch ch.Field {
		case "ConfigurePostgres", "ConfigureMySQL":
			out[i].Field = "Configure" // as the user knows it
		case "Name", "Start":
			errs = append(errs, fmt.Errorf("sqlpool: %s cannot change while the pool lives (%s, wanted %s)",
				ch.Field, ch.From, ch.To))
		case "MaxOpenCeiling":
			errs = append(errs, fmt.Errorf("sqlpool: MaxOpenCeiling is fixed when the pool is made (%s, wanted %s)",
				ch.From, ch.To))
		}
	}
	if ceiling := m.cfg().MaxOpenCeiling; ceiling > 0 && next.MaxOpen > ceiling {
		errs = append(errs, fmt.Errorf("sqlpool: MaxOpen %d is above MaxOpenCeiling, %d: pgxpool cannot grow beyond it",
			next.MaxOpen, ceiling))
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
	on     secretFiles
	target target
	next   config // with defaults
	list   []poolkeeper.Change
}

// stage finds out what a reload with wanted would change. It changes nothing, and does not dial.
func (m *manager) stage(wanted config) (staged, error) {
	if wanted.Name == "" {
		wanted.Name = m.cfg().Name
	}
	s := staged{on: wanted.readFiles()}
	var err error
	if s.target, s.next, err = m.back.resolve(wanted, s.on); err != nil {
		return s, err
	}
	if wanted.MaxOpenCeiling == 0 {
		s.next.MaxOpenCeiling = m.cfg().MaxOpenCeiling
	}
	s.next = *m.within(&s.next, &wanted)
	s.list, err = m.plan(&s.next)
	if wanted.files() == m.cfg().files() { // the names are; what they hold may not be
		s.list = append(s.list, onfile.Differ(*m.inEffect.Load(), s.on.Contents)...)
	}
	return s, err
}

// planned is stage for Plan, which changes nothing.
func (m *manager) planned(wanted config) ([]poolkeeper.Change, error) {
	s, err := m.stage(wanted)
	if err != nil {
		return s.list, fmt.Errorf("sqlpool: plan for %q: %w", m.poolName(), err)
	}
	return s.list, nil
}

// reload replaces the configuration. Nothing is touched before all of it has been accepted and, if
// it leads elsewhere, a connection has been opened and checked by it; if a check fails afterwards,
// the old one is put back.
func (m *manager) reload(ctx context.Context, wanted config) error {
	if err := m.state.BeginChange(ctx); err != nil {
		return fmt.Errorf("sqlpool: reload %q: %w", m.poolName(), err)
	}
	defer m.state.EndChange()
	list, err := m.replace(ctx, wanted)
	switch {
	case err != nil:
		m.events.Emit(event.OfReloadRefused(err))
	case len(list) > 0:
		m.events.Emit(event.OfReload(list))
		if slices.ContainsFunc(list, fleet.Concerns) || slices.ContainsFunc(list, leads) {
			m.warnOfLimits(ctx)
		}
	}
	return err
}

// replace puts wanted in effect and returns what has changed. It needs the turn to reload.
func (m *manager) replace(ctx context.Context, wanted config) ([]poolkeeper.Change, error) {
	name := m.poolName()
	s, err := m.stage(wanted)
	if err != nil {
		return nil, fmt.Errorf("sqlpool: reload %q: nothing was changed: %w", name, err)
	}
	on, to, next, list := s.on, s.target, s.next, s.list
	if len(list) == 0 {
		return nil, nil
	}
	elsewhere := slices.ContainsFunc(list, leads)
	if elsewhere {
		if err := m.tryTarget(ctx, to, &next); err != nil {
			return nil, fmt.Errorf("sqlpool: reload %q: nothing was changed: %w", name, fault.Wrap(err))
		}
	}
	if err := m.switchTo(ctx, to, &next, elsewhere); err != nil {
		return nil, err
	}
	m.inEffect.Store(&on.Contents)
	m.asked = &on.asked
	return list, nil
}

func (m *manager) switchTo(ctx context.Context, to target, next *config, elsewhere bool) error {
	oldTarget, old := m.back.current(), m.cfg()
	m.putInEffect(ctx, to, next, elsewhere)
	if !elsewhere {
		return nil
	}
	check, cancel := context.WithTimeout(ctx, next.DialTimeout)
	defer cancel()
	if err := m.back.check(check); err != nil {
		m.putInEffect(ctx, oldTarget, old, true)
		return fmt.Errorf("sqlpool: reload %q: the check failed, and the old configuration is back: %w",
			m.poolName(), fault.Wrap(err))
	}
	return nil
}

// putInEffect makes a configuration the one in effect.
func (m *manager) putInEffect(ctx context.Context, to target, cfg *config, elsewhere bool) {
	m.conf.Store(cfg)
	m.logins.Store(new(rotation.Watch))
	m.held.SetStacks(!cfg.DisableLeakStacks)
	m.watchAnew(m.watchesFor(cfg))
	m.back.use(ctx, to, cfg, elsewhere)
	if m.evictor != nil {
		_ = m.evictor.SetPolicy(cfg.policy()) // Validate has accepted every part of it
	}
	if elsewhere {
		m.breaker.Answer() // the server that is down, if any, was another, or is back: the reload has tried this one
		m.reset(poolkeeper.EvictedReload)
	} else {
		m.back.flush() // what is too many, or too old now
	}
}
