package lifecycle

import (
	"slices"
	"time"

	"github.com/poolkeeper/poolkeeper/health"
)

// Option says something about one component to [Registry.Add]. Options of one kind given twice: the
// last one counts, but names given to WithDependencies add up.
type Option func(*settings)

// settings is what options say.
type settings struct {
	dependsOn    []string
	startTimeout time.Duration // zero: what Start has left
	stopTimeout  time.Duration // zero: the component's share of the shutdown's time
	ops          bool
	onDeath      DeathPolicy
	deathSet     bool
	check        *health.Check // nil: not given
	odd          []oddOption
}

// oddOption is an option that makes no sense by itself.
type oddOption struct{ option, reason string }

// WithDependencies names the components that must be up before this one starts, and stay up until
// it has stopped. They may be added later than this one.
func WithDependencies(names ...string) Option {
	return func(s *settings) {
		if s.dependsOn == nil {
			s.dependsOn = slices.Clip(names)
			return
		}
		s.dependsOn = append(slices.Clip(s.dependsOn), names...)
	}
}

// WithStartTimeout bounds the component's Start, d > 0. Without it, it has until the registry's
// StartTimeout.
func WithStartTimeout(d time.Duration) Option {
	return func(s *settings) {
		if d <= 0 {
			s.odd = append(s.odd, oddOption{"WithStartTimeout", d.String() + " is not positive"})
		}
		s.startTimeout = d
	}
}

// WithStopTimeout bounds the component's Drain, Stop and Abort together, d > 0. It can only shorten
// the share of the time that the component gets in any case (see [Registry.Shutdown]).
func WithStopTimeout(d time.Duration) Option {
	return func(s *settings) {
		if d <= 0 {
			s.odd = append(s.odd, oddOption{"WithStopTimeout", d.String() + " is not positive"})
		}
		s.stopTimeout = d
	}
}

// WithOps marks a component that watches the service rather than being part of it: probes, metrics,
// profiling. They start before all others and stop after them. They may depend on each
// other only.
func WithOps() Option {
	return func(s *settings) { s.ops = true }
}

// WithHealthCheck changes the health check of a component that is a [Checker] or [MultiChecker]:
// every field of c that is not zero replaces the default. With a Probe, a component that is neither
// gets a check. Name and DependsOn must be empty: the check has the name of the component, and
// depends on the checks of what the component depends on.
func WithHealthCheck(c health.Check) Option {
	return func(s *settings) {
		if c.Name != "" {
			s.odd = append(s.odd, oddOption{"WithHealthCheck", "Name is given; the check has the name of its component"})
		}
		if len(c.DependsOn) > 0 {
			s.odd = append(s.odd, oddOption{"WithHealthCheck", "DependsOn is given; it follows from that of the component"})
		}
		s.check = &c
	}
}

// DeathPolicy says what happens when a component ends by itself, with an error, while it is up.
type DeathPolicy uint8

const (
	// DeathPolicyShutdown shuts the registry down; the error of Run and Shutdown says why. It is
	// the zero value.
	DeathPolicyShutdown DeathPolicy = iota
	// DeathPolicyIgnore leaves the rest running; the death is logged and shown in Status.
	DeathPolicyIgnore
	// DeathPolicyRestart stops what depends on the component, starts it again after a delay (1 s,
	// doubling up to 30 s, jittered; back to 1 s after it was up for a minute) and then its
	// dependents, with readiness off until all are up. It needs the component and all its
	// dependents to be [Restartable].
	DeathPolicyRestart
)

// String returns "shutdown", "ignore" or "restart".
func (p DeathPolicy) String() string {
	switch p {
	case DeathPolicyShutdown:
		return "shutdown"
	case DeathPolicyIgnore:
		return "ignore"
	case DeathPolicyRestart:
		return "restart"
	}
	return "unknown"
}

// WithDeathPolicy sets what happens when the component, a [DoneNotifier], dies. A component that
// completes (a [Worker] that returns nil) has not died.
func WithDeathPolicy(p DeathPolicy) Option {
	return func(s *settings) {
		if p > DeathPolicyRestart {
			s.odd = append(s.odd, oddOption{"WithDeathPolicy", "unknown policy"})
		}
		s.onDeath, s.deathSet = p, true
	}
}
