package lifecycle_test

import (
	"context"
	"testing"

	"github.com/poolkeeper/poolkeeper/internal/test/trials"
	"github.com/poolkeeper/poolkeeper/lifecycle"
)

// system puts a Registry on trial.
type system struct{ reg *lifecycle.Registry }

func registry() trials.System { return system{lifecycle.New(quiet())} }

func (s system) Add(name string, c trials.Component, dependsOn ...string) {
	s.reg.Add(name, defendant{c}, lifecycle.WithDependencies(dependsOn...))
}

func (s system) Start(ctx context.Context) error { return s.reg.Start(ctx) }
func (s system) Stop(ctx context.Context) error  { return s.reg.Shutdown(ctx) }

type defendant struct{ c trials.Component }

func (d defendant) Start(ctx context.Context) error { return d.c.Start(ctx) }
func (d defendant) Stop(ctx context.Context) error  { return d.c.Stop(ctx) }
func (d defendant) Done() <-chan error              { return d.c.Died }

func TestTrialOrder(t *testing.T)           { trials.Run(t, trials.Order, registry) }       // INV-1
func TestTrialFailedStart(t *testing.T)     { trials.Run(t, trials.FailedStart, registry) } // INV-13
func TestTrialStartHangs(t *testing.T)      { trials.Run(t, trials.StartHangs, registry) }
func TestTrialStopHangs(t *testing.T)       { trials.Run(t, trials.StopHangs, registry) } // INV-2
func TestTrialPanics(t *testing.T)          { trials.Run(t, trials.Panics, registry) }
func TestTrialStopDuringStart(t *testing.T) { trials.Run(t, trials.StopDuringStart, registry) }
func TestTrialConcurrentStops(t *testing.T) { trials.Run(t, trials.ConcurrentStops, registry) }
func TestTrialFaults(t *testing.T)          { trials.Run(t, trials.Faults, registry) }
func TestTrialStopErrors(t *testing.T)      { trials.Run(t, trials.StopErrors, registry) }
func TestTrialDeath(t *testing.T)           { trials.Run(t, trials.Death, registry) }

func TestNoTrialIsLeftOut(t *testing.T) {
	tested := []string{
		"Order", "FailedStart", "StartHangs", "StopHangs", "Panics", "StopDuringStart", "ConcurrentStops", "Faults",
		"StopErrors", "Death",
	}
	all := trials.All()
	if len(all) != len(tested) {
		t.Fatalf("%d trials, %d tests", len(all), len(tested))
	}
	for i, trial := range all {
		if trial.Name != tested[i] {
			t.Errorf("trial %s has no test", trial.Name)
		}
	}
}
