package lifecycle

import (
	"errors"
	"log/slog"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/poolkeeper/poolkeeper/health"
)

// Defaults of [Config].
const (
	defaultStartTimeout    = time.Minute
	defaultShutdownTimeout = 25 * time.Second // Kubernetes kills after 30 s unless told otherwise
)

// HangPolicy says what happens to the dependencies of a component that hangs in Stop.
type HangPolicy uint8

const (
	// HangPolicyAbandon gives the hung component up at its own deadline and goes on: its
	// dependencies are closed under it, so that they are closed at all. It is the zero value.
	HangPolicyAbandon HangPolicy = iota
	// HangPolicyHold keeps the dependencies of a hung component open, because a component that
	// still writes must not lose what it writes to. What was held is named in the error of
	// Shutdown, and is still open after it.
	HangPolicyHold
)

// String returns "abandon" or "hold".
func (p HangPolicy) String() string {
	switch p {
	case HangPolicyAbandon:
		return "abandon"
	case HangPolicyHold:
		return "hold"
	}
	return "unknown"
}

// Config sets up a [Registry]. The zero Config is ready to use.
type Config struct {
	// Logger gets every event of the registry. nil: slog.Default(). To log nothing, give it
	// slog.DiscardHandler.
	Logger *slog.Logger

	// Health sets up the registry's monitor, the defaults of its checks among it. Its Logger, if
	// nil, is Logger.
	Health health.Config

	// StartTimeout bounds Start in all, together with the deadline of the context given to Start:
	// the earlier counts. Zero: that deadline alone; 1 min if there is none. Rolling back after a
	// failure has ShutdownTimeout on top.
	StartTimeout time.Duration

	// ShutdownTimeout bounds a shutdown in all, DrainDelay included, together with the deadline of
	// the context given to Shutdown: the earlier counts. Zero: that deadline alone; if there is
	// none, as in Run, 25 s, which fits into Kubernetes' default grace period of 30 s.
	ShutdownTimeout time.Duration

	// DrainDelay is for how long a shutdown goes on serving after readiness has become false, so
	// that load balancers can take notice. It takes at most half of the time there is. It is
	// skipped when the registry was not up. Zero: no delay.
	DrainDelay time.Duration

	// Signals are those that end Run. nil: SIGINT and SIGTERM. Empty but not nil: none.
	Signals []os.Signal

	// OnHang says what becomes of the dependencies of a component that hangs in Stop. Zero:
	// HangPolicyAbandon.
	OnHang HangPolicy
}

// Validate reports every fault of c at once, joined. It changes nothing; zero fields are not
// faults.
func (c Config) Validate() error {
	return errors.Join(c.faults()...)
}

func (c Config) faults() []error {
	var faults []error
	for _, f := range []struct {
		name  string
		value time.Duration
	}{{"StartTimeout", c.StartTimeout}, {"ShutdownTimeout", c.ShutdownTimeout}, {"DrainDelay", c.DrainDelay}} {
		if f.value < 0 {
			faults = append(faults, &optionError{Option: f.name, Reason: f.value.String() + " is negative"})
		}
	}
	for _, s := range c.Signals {
		if s == nil {
			faults = append(faults, &optionError{Option: "Signals", Reason: "contains nil"})
		}
	}
	if c.OnHang > HangPolicyHold {
		faults = append(faults, &optionError{Option: "OnHang", Reason: "neither HangPolicyAbandon nor HangPolicyHold"})
	}
	if err := c.Health.Validate(); err != nil {
		faults = append(faults, &optionError{Option: "Health", Reason: without("health: config: ", err), Err: err})
	}
	return faults
}

// withDefaults returns a copy in which every zero field has its default.
func (c Config) withDefaults() Config {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	c.StartTimeout, c.ShutdownTimeout = max(c.StartTimeout, 0), max(c.ShutdownTimeout, 0)
	if c.Signals == nil {
		c.Signals = []os.Signal{os.Interrupt, syscall.SIGTERM}
	}
	return c
}

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
	bad          []badOption
}

// badOption is an option that makes no sense by itself.
type badOption struct{ option, reason string }

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
			s.bad = append(s.bad, badOption{"WithStartTimeout", d.String() + " is not positive"})
		}
		s.startTimeout = d
	}
}

// WithStopTimeout bounds the component's Drain, Stop and Abort together, d > 0. It can only shorten
// the share of the time that the component gets in any case (see [Registry.Shutdown]).
func WithStopTimeout(d time.Duration) Option {
	return func(s *settings) {
		if d <= 0 {
			s.bad = append(s.bad, badOption{"WithStopTimeout", d.String() + " is not positive"})
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
			s.bad = append(s.bad, badOption{"WithHealthCheck", "Name is given; the check has the name of its component"})
		}
		if len(c.DependsOn) > 0 {
			s.bad = append(s.bad, badOption{"WithHealthCheck", "DependsOn is given; it follows from that of the component"})
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
			s.bad = append(s.bad, badOption{"WithDeathPolicy", "unknown policy"})
		}
		s.onDeath, s.deathSet = p, true
	}
}
