package replica

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/poolkeeper/poolkeeper/sqlpool"
)

// Reload replaces the configuration while the component works: MaxLag, PollInterval, PollTimeout
// and Fallback hold at once, and each pool is reloaded as by its own Reload, one after the other;
// if one refuses, those before it are put back. The number of replicas and their names cannot
// change. It blocks at most until ctx ends.
func (s *set) Reload(ctx context.Context, cfg Config) error {
	s.mu.Lock()
	name := s.name
	s.mu.Unlock()
	if err := s.reloading.Take(ctx); err != nil {
		return fmt.Errorf("replica: reload %q: another is under way: %w", name, err)
	}
	defer s.reloading.End()
	old := s.conf.Load()
	if err := s.reloadable(old, cfg); err != nil {
		return fmt.Errorf("replica: reload %q: nothing was changed: %w", name, err)
	}
	next := cfg.withDefaults()
	next.Name = old.Name
	if err := s.prepareFallback(&next); err != nil {
		return fmt.Errorf("replica: reload %q: nothing was changed: %w", name, err)
	}
	if err := s.reloadMembers(ctx, old.members(), cfg.members()); err != nil {
		return err
	}
	s.conf.Store(&next)
	s.mu.Lock()
	changed := s.chooseLocked(time.Now())
	s.mu.Unlock()
	emit(changed)
	for _, m := range s.members {
		m.poller.soon()
	}
	return nil
}

func (s *set) reloadable(old *Config, cfg Config) error {
	errs := []error{cfg.Validate(), cfg.validateURLs(s.kind.check), s.refusal()}
	if cfg.Name != "" && cfg.Name != old.Name {
		errs = append(errs, fmt.Errorf("replica: Name cannot change while the pools live (%s, wanted %s)",
			old.Name, cfg.Name))
	}
	if a, b := len(old.Replicas), len(cfg.Replicas); a != b {
		errs = append(errs, fmt.Errorf("replica: the number of Replicas is fixed when the pools are made (%d, wanted %d)", a, b))
		return errors.Join(errs...)
	}
	next := cfg.members()
	for i, m := range s.members {
		if next[i].Name != m.name {
			errs = append(errs, fmt.Errorf("replica: the name of a replica cannot change (%s, wanted %s)",
				m.name, next[i].Name))
		}
	}
	return errors.Join(errs...)
}

// reloadMembers reloads every pool, or none.
func (s *set) reloadMembers(ctx context.Context, old, next []sqlpool.Config) error {
	for i, m := range s.members {
		next[i].Name = "" // stays what it is
		err := m.pool.Reload(ctx, next[i])
		if err == nil {
			continue
		}
		back := context.WithoutCancel(ctx) // each is bounded by its DialTimeout
		for j := range i {
			old[j].Name = ""
			if backErr := s.members[j].pool.Reload(back, old[j]); backErr != nil {
				err = errors.Join(err, fmt.Errorf("and could not be put back: %w", backErr))
			}
		}
		return err
	}
	return nil
}
