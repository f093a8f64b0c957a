package sqlpool

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/settings"
)

// Validate returns every fault of c that does not depend on the constructor, joined, or nil. It
// changes nothing. The constructors call it.
func (c Config) Validate() error {
	return errors.Join(c.validateSizes(), c.validateTimes(), c.validateChoices(), c.fileFaults())
}

func (c Config) validateSizes() error {
	var errs []error
	if c.MaxOpen < 0 || c.MaxOpen > maxMaxOpen {
		errs = append(errs, fmt.Errorf("sqlpool: MaxOpen is %d; it must be 0 (the default) to %d", c.MaxOpen, maxMaxOpen))
	}
	if limit := max(c.maxOpenOrDefault(), 0); c.MinIdle < 0 || c.MinIdle > limit {
		errs = append(errs, fmt.Errorf("sqlpool: MinIdle is %d; it must be 0 to MaxOpen, %d", c.MinIdle, limit))
	}
	if limit := c.maxOpenOrDefault(); c.MaxOpenCeiling != 0 && (c.MaxOpenCeiling < limit || c.MaxOpenCeiling > maxMaxOpen) {
		errs = append(errs, fmt.Errorf("sqlpool: MaxOpenCeiling is %d; it must be 0 (MaxOpen) or from MaxOpen, %d, to %d", c.MaxOpenCeiling, limit, maxMaxOpen))
	}
	if c.Instances < 0 {
		errs = append(errs, fmt.Errorf("sqlpool: Instances is %d; it must not be negative", c.Instances))
	}
	if c.MaxWaiting < poolkeeper.NoWaiting {
		errs = append(errs, fmt.Errorf("sqlpool: MaxWaiting is %d; it must be NoWaiting, 0 (no limit) or positive", c.MaxWaiting))
	}
	if c.MaxDials < 0 {
		errs = append(errs, fmt.Errorf("sqlpool: MaxDials is %d; it must not be negative", c.MaxDials))
	}
	if !(c.LifetimeJitter >= 0 && c.LifetimeJitter <= 1) { // written so that NaN is refused too
		errs = append(errs, fmt.Errorf("sqlpool: LifetimeJitter is %v; it must be 0 to 1", c.LifetimeJitter))
	}
	return errors.Join(errs...)
}

func (c Config) validateTimes() error {
	return settings.Times("sqlpool",
		settings.Time{Name: "MaxIdleTime", Value: c.MaxIdleTime, Off: true, Long: true},
		settings.Time{Name: "MaxLifetime", Value: c.MaxLifetime, Off: true, Long: true},
		settings.Time{Name: "KeepAlive", Value: c.KeepAlive, Off: true, Long: true},
		settings.Time{Name: "AcquireTimeout", Value: c.AcquireTimeout, Off: true},
		settings.Time{Name: "FailFastAfter", Value: c.FailFastAfter, Off: true},
		settings.Time{Name: "LeakThreshold", Value: c.LeakThreshold, Off: true, Long: true},
		settings.Time{Name: "SuspectPing", Value: c.SuspectPing, Off: true},
		settings.Time{Name: "CloseGrace", Value: c.CloseGrace, Off: true},
		settings.Time{Name: "FileInterval", Value: c.FileInterval, Off: true, Long: true},
		settings.Time{Name: "EvictionInterval", Value: c.EvictionInterval},
		settings.Time{Name: "ReclaimAfter", Value: c.ReclaimAfter, Long: true},
		settings.Time{Name: "QueryTimeout", Value: c.QueryTimeout},
		settings.Time{Name: "DialTimeout", Value: c.DialTimeout},
	)
}

func (c Config) validateChoices() error {
	var errs []error
	if c.Start < poolkeeper.StartFailFast || c.Start > poolkeeper.StartDegraded {
		errs = append(errs, fmt.Errorf("sqlpool: Start is %s; it must be StartFailFast, StartWaitForServer or StartDegraded", c.Start))
	}
	for _, s := range []struct {
		name  string
		value Switch
	}{{"RecycleReadOnly", c.RecycleReadOnly}, {"Peek", c.Peek}} {
		if s.value < Default || s.value > Disabled {
			errs = append(errs, fmt.Errorf("sqlpool: %s is %d; it must be Default, Enabled or Disabled", s.name, s.value))
		}
	}
	return errors.Join(errs...)
}

// refuse returns a fault for each of the named fields that is set. why ends the sentence.
func refuse(why string, set map[string]bool) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(set)) {
		if set[name] {
			errs = append(errs, fmt.Errorf("sqlpool: %s is set, but %s", name, why))
		}
	}
	return errors.Join(errs...)
}
