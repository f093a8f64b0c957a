package lifecycle

import (
	"errors"
	"log/slog"
	"os"
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
