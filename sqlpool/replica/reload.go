package replica

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/event"
	"github.com/poolkeeper/poolkeeper/internal/settings"
)

// Reload replaces the configuration while the component works. MaxLag, PollInterval, PollTimeout,
// Fallback and Isolation take effect at once. It reloads the pools one after the other; if one
// refuses, those before it get their old configurations back. The number and the names of the
// replicas cannot change. It blocks at most until ctx ends.
func (p *Postgres) Reload(ctx context.Context, cfg PostgresConfig) error {
	return p.reload(ctx, cfg.config()) //nolint:contextcheck // what makes the pools is not called
}

// Reload replaces the configuration while the component works. MaxLag, PollInterval, PollTimeout,
// Fallback and Isolation take effect at once. It reloads the pools one after the other; if one
// refuses, those before it get their old configurations back. The number and the names of the
// replicas cannot change. It blocks at most until ctx ends.
func (m *MySQL) Reload(ctx context.Context, cfg MySQLConfig) error {
	return m.reload(ctx, cfg.config())
}

// Plan returns the changes that Reload with cfg would make, those of a pool as "replica-1.MaxOpen".
// Its error joins every fault of cfg and every field that cannot change. Plan changes nothing and
// does not dial.
func (p *Postgres) Plan(cfg PostgresConfig) ([]poolkeeper.Change, error) {
	return p.planned(cfg.config())
}

// Plan returns the changes that Reload with cfg would make, those of a pool as "replica-1.MaxOpen".
// Its error joins every fault of cfg and every field that cannot change. Plan changes nothing and
// does not dial.
func (m *MySQL) Plan(cfg MySQLConfig) ([]poolkeeper.Change, error) {
	return m.planned(cfg.config())
}

func (s *set) planned(cfg config) ([]poolkeeper.Change, error) {
	old := s.conf.Load()
	if err := s.reloadable(old, cfg); err != nil {
		return nil, fmt.Errorf("replica: plan for %q: %w", old.Name, err)
	}
	out := old.changes(cfg.withDefaults())
	var errs []error
	for i, m := range s.members {
		changes, err := cfg.servers[i].plan(m.pool)
		for _, c := range changes {
			c.Field = m.name + "." + c.Field
			out = append(out, c)
		}
		errs = append(errs, err)
	}
	return out, errors.Join(errs...)
}

func (s *set) reload(ctx context.Context, cfg config) error {
	s.mu.Lock()
	name := s.name
	s.mu.Unlock()
	if err := s.reloading.Lock(ctx); err != nil {
		return fmt.Errorf("replica: reload %q: another is under way: %w", name, err)
	}
	defer s.reloading.Unlock()
	old := s.conf.Load()
	next := cfg.withDefaults()
	next.Name = old.Name
	err := s.reloadable(old, cfg)
	if err == nil {
		err = s.prepareFallback(&next)
	}
	if err != nil {
		err = fmt.Errorf("replica: reload %q: nothing was changed: %w", name, err)
		s.events.Emit(event.OfReloadRefused(err))
		return err
	}
	if err := s.reloadMembers(ctx, old.servers, next.servers); err != nil {
		return err // the pool that refuses says so
	}
	s.conf.Store(&next)
	if changes := old.changes(next); len(changes) > 0 {
		s.events.Emit(event.OfReload(changes))
	}
	s.mu.Lock()
	s.scores.Configure(next.Isolation, next.PollInterval)
	changed := s.chooseLocked(time.Now())
	s.mu.Unlock()
	emit(changed)
	for _, m := range s.members {
		m.poller.soon()
	}
	return nil
}

// changes lists what differs between the fields of the set's own.
func (c config) changes(next config) []poolkeeper.Change {
	type own struct {
		MaxLag, PollInterval, PollTimeout time.Duration
		Fallback                          Fallback
		Isolation                         poolkeeper.Isolation
	}
	of := func(c config) *own { return &own{c.MaxLag, c.PollInterval, c.PollTimeout, c.Fallback, c.Isolation} }
	return settings.Diff(of(c), of(next))
}

func (s *set) reloadable(old *config, cfg config) error {
	errs := []error{cfg.validate(), s.refusal()}
	if cfg.Name != "" && cfg.Name != old.Name {
		errs = append(errs, fmt.Errorf("replica: Name cannot change while the pools live (%s, wanted %s)",
			old.Name, cfg.Name))
	}
	if a, b := len(old.servers)-1, len(cfg.servers)-1; a != b {
		errs = append(errs, fmt.Errorf("replica: the number of Replicas is fixed when the pools are made (%d, wanted %d)",
			a, b))
		return errors.Join(errs...)
	}
	for i, m := range s.members {
		if wanted := cfg.servers[i].name; wanted != m.name {
			errs = append(errs, fmt.Errorf("replica: the name of a replica cannot change (%s, wanted %s)",
				m.name, wanted))
		}
	}
	return errors.Join(errs...)
}

// reloadMembers reloads every pool, or none.
func (s *set) reloadMembers(ctx context.Context, old, next []server) error {
	for i, m := range s.members {
		err := next[i].reload(ctx, m.pool)
		if err == nil {
			continue
		}
		back := context.WithoutCancel(ctx) // each is bounded by its DialTimeout
		for j := range i {
			if backErr := old[j].reload(back, s.members[j].pool); backErr != nil {
				err = errors.Join(err, fmt.Errorf("and could not be put back: %w", backErr))
			}
		}
		return err
	}
	return nil
}
