package health

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// Defaults of [Config] and [Check].
const (
	defaultInterval         = 10 * time.Second
	defaultRetryInterval    = time.Second
	defaultTimeout          = 2 * time.Second
	defaultJitter           = 0.1
	defaultFailureThreshold = 3
	defaultSuccessThreshold = 1
	defaultMaxConcurrent    = 32
)

// Config sets up a [Monitor]. The zero Config is ready to use.
type Config struct {
	// Logger gets a line for each change of a check: WARN when it fails or works with a
	// reservation, INFO when it passes again, with cause and advice. A check that flaps gets five
	// lines, and then one a minute. nil: slog.Default(), in a lifecycle.Registry the registry's
	// logger. To log nothing, give it slog.DiscardHandler.
	Logger *slog.Logger

	// Interval is the default of [Check.Interval]. Zero: 10 s; at least 1 ms.
	Interval time.Duration
	// RetryInterval is the default of [Check.RetryInterval]. Zero: 1 s, or Interval if that is
	// shorter.
	RetryInterval time.Duration
	// Timeout is the default of [Check.Timeout]. Zero: 2 s.
	Timeout time.Duration
	// Jitter is the default of [Check.Jitter], a part of the interval from 0 to 1. Zero: 0.1;
	// poolkeeper.NoJitter: none.
	Jitter float64
	// FailureThreshold is the default of [Check.FailureThreshold]. Zero: 3.
	FailureThreshold int
	// SuccessThreshold is the default of [Check.SuccessThreshold]. Zero: 1.
	SuccessThreshold int

	// MaxConcurrent is how many probes run at the same time; the others queue in the order they
	// became due. Checks whose last run timed out queue apart, with as many places of their own, so
	// that what hangs does not delay what works. Zero: 32.
	MaxConcurrent int

	// OnTransition is called for every change of a check or a group, one call at a time, in order,
	// from a goroutine that exists only while there is something to tell. It may call anything of
	// the monitor; while it blocks, changes are merged as with [Monitor.Watch]. A panic in it is
	// logged with its stack. Nil: no function is called.
	OnTransition func(Transition)
}

// Validate reports every fault at once, joined. It changes nothing; zero fields are not faults.
func (c Config) Validate() error {
	d := c.withDefaults()
	t := timing{d.Interval, d.RetryInterval, d.Timeout, d.Jitter, d.FailureThreshold, d.SuccessThreshold}
	errs := t.faults(c.RetryInterval != 0)
	if c.MaxConcurrent < 0 {
		errs = append(errs, fmt.Errorf("MaxConcurrent %d is negative", c.MaxConcurrent))
	}
	for i, err := range errs {
		errs[i] = fmt.Errorf("health: config: %w", err)
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	c.Interval = cmp.Or(c.Interval, defaultInterval)
	c.RetryInterval = cmp.Or(c.RetryInterval, min(defaultRetryInterval, c.Interval))
	c.Timeout = cmp.Or(c.Timeout, defaultTimeout)
	c.Jitter = cmp.Or(c.Jitter, defaultJitter)
	c.FailureThreshold = cmp.Or(c.FailureThreshold, defaultFailureThreshold)
	c.SuccessThreshold = cmp.Or(c.SuccessThreshold, defaultSuccessThreshold)
	c.MaxConcurrent = cmp.Or(c.MaxConcurrent, defaultMaxConcurrent)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

// timing is what Config and Check have in common, and judge by the same rules. Defaults have been
// applied.
type timing struct {
	interval, retry, timeout time.Duration
	jitter                   float64
	failures, successes      int
}

// faults returns what is wrong. A retry interval that was not given follows from the interval, and
// has no faults of its own.
func (t timing) faults(retryGiven bool) []error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if t.interval < time.Millisecond {
		fault("Interval %v is less than 1ms", t.interval)
	}
	if retryGiven && t.retry < time.Millisecond {
		fault("RetryInterval %v is less than 1ms", t.retry)
	}
	if retryGiven && t.retry > t.interval && t.interval > 0 {
		fault("RetryInterval %v is more than Interval %v", t.retry, t.interval)
	}
	if t.timeout <= 0 {
		fault("Timeout %v is negative", t.timeout)
	}
	if !(t.jitter >= 0 && t.jitter <= 1) { // written so that NaN is a fault too
		fault("Jitter %v is not between 0 and 1", t.jitter)
	}
	if t.failures < 0 {
		fault("FailureThreshold %d is negative", t.failures)
	}
	if t.successes < 0 {
		fault("SuccessThreshold %d is negative", t.successes)
	}
	return errs
}

func (c Check) validate(d Config) error {
	var errs []error
	fault := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("health: check %q: "+format, append([]any{c.Name}, args...)...))
	}
	if err := validName(c.Name); err != nil {
		fault("name: %w", err)
	}
	if c.Probe == nil {
		fault("Probe is nil")
	}
	if c.Impact > ImpactDegrading {
		fault("Impact %d is neither ImpactCritical nor ImpactDegrading", c.Impact)
	}
	for _, g := range c.Groups {
		if err := validGroup(g); err != nil {
			fault("group %q: %w", g, err)
		}
	}
	eff := c.withDefaults(d)
	for _, err := range eff.timing().faults(c.RetryInterval != 0) {
		fault("%w", err)
	}
	if c.InitialDelay < 0 {
		fault("InitialDelay %v is negative", c.InitialDelay)
	}
	if len(errs) == 0 && eff.MaxAge < eff.minAge() {
		fault("MaxAge %v is less than Interval with jitter plus Timeout, %v: it would expire between two runs",
			eff.MaxAge, eff.minAge())
	}
	return errors.Join(errs...)
}

func (c Check) timing() timing {
	return timing{c.Interval, c.RetryInterval, c.Timeout, c.Jitter, c.FailureThreshold, c.SuccessThreshold}
}

// withDefaults returns a copy in which every zero field has its default, taken from the monitor's.
func (c Check) withDefaults(d Config) Check {
	c.Groups = slices.Compact(slices.Sorted(slices.Values(c.Groups))) // twice is once
	c.DependsOn = slices.Clone(c.DependsOn)
	if len(c.Groups) == 0 {
		c.Groups = []string{GroupReady}
	}
	c.Interval = cmp.Or(c.Interval, d.Interval)
	c.RetryInterval = cmp.Or(c.RetryInterval, min(d.RetryInterval, c.Interval))
	c.Timeout = cmp.Or(c.Timeout, d.Timeout)
	c.Jitter = cmp.Or(c.Jitter, d.Jitter)
	c.FailureThreshold = cmp.Or(c.FailureThreshold, d.FailureThreshold)
	c.SuccessThreshold = cmp.Or(c.SuccessThreshold, d.SuccessThreshold)
	c.MaxAge = cmp.Or(c.MaxAge, max(sum(c.Interval, c.Interval, c.Interval, c.Timeout), c.minAge()))
	return c
}
