package health_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"

	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/test/healthtrials"
)

// ours is the adapter of the health package.
type ours struct {
	m        *health.Monitor
	checks   map[string]*health.Registration
	listener func(string)
}

func newOurs() healthtrials.Subject {
	s := &ours{checks: make(map[string]*health.Registration)}
	s.m = health.New(health.Config{OnTransition: func(t health.Transition) {
		if s.listener != nil && t.Check != "" {
			s.listener(t.Check)
		}
	}})
	return s
}

func (s *ours) Add(c healthtrials.Check) error {
	r, err := s.m.Register(health.Check{
		Name: c.Name, Probe: c.Probe, Interval: c.Interval, Timeout: c.Timeout, RetryInterval: c.RetryInterval,
		MaxAge: c.MaxAge, FailureThreshold: c.FailureThreshold, SuccessThreshold: c.SuccessThreshold,
		DependsOn: c.DependsOn,
	})
	s.checks[c.Name] = r
	return err
}

func (s *ours) Remove(ctx context.Context, name string) error { return s.checks[name].Remove(ctx) }
func (s *ours) Start(ctx context.Context) error               { return s.m.Start(ctx) }
func (s *ours) Stop(ctx context.Context) error                { return s.m.Stop(ctx) }
func (s *ours) Ready() http.Handler                           { return health.GroupHandler(s.m, health.GroupReady) }

func (s *ours) Live() http.Handler { return health.GroupHandler(s.m, health.GroupLive) }

func (s *ours) Drain() error {
	s.m.SetDraining()
	return nil
}

func (s *ours) Causes(name string) ([]string, error) {
	c, ok := s.m.Report().Check(name)
	if !ok {
		return nil, errors.New("no such check")
	}
	return c.CausedBy, nil
}

func (s *ours) Observe(name string, err error) error {
	s.checks[name].Observe(err)
	return nil
}

func (s *ours) Listen(f func(string)) error {
	s.listener = f
	return nil
}

func (s *ours) Freeze() error {
	health.KillScheduler(s.m)
	return nil
}

func TestEveryTrialHolds(t *testing.T) {
	for _, trial := range healthtrials.All() {
		t.Run(trial.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if err := trial.Run(t.Context(), newOurs); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
