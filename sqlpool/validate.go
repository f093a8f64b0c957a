package sqlpool

import (
	"errors"
	"fmt"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/settings"
)

// validate returns every fault of c that can be seen without parsing URL, joined, or nil.
func (c config) validate() error {
	return errors.Join(c.validateSizes(), c.validateTimes(), c.validateStart(), c.fileFaults())
}

func (c config) validateSizes() error {
	var errs []error
	if c.MaxOpen < 0 || c.MaxOpen > maxMaxOpen {
		errs = append(errs, fmt.Errorf("sqlpool: MaxOpen is %d; it must be 0 (the default) to %d", c.MaxOpen, maxMaxOpen))
	}
	if limit := max(c.maxOpenOrDefault(), 0); c.MinIdle < 0 || c.MinIdle > limit {
		errs = append(errs, fmt.Errorf("sqlpool: MinIdle is %d; it must be 0 to MaxOpen, %d", c.MinIdle, limit))
	}
	limit, ceiling := c.maxOpenOrDefault(), c.MaxOpenCeiling
	if ceiling != 0 && (ceiling < limit || ceiling > maxMaxOpen) {
		errs = append(errs, fmt.Errorf(
			"sqlpool: MaxOpenCeiling is %d; it must be 0 (MaxOpen) or from MaxOpen, %d, to %d", ceiling, limit, maxMaxOpen,
		))
	}
	if c.Instances < 0 {
		errs = append(errs, fmt.Errorf("sqlpool: Instances is %d; it must not be negative", c.Instances))
	}
	if c.MaxWaiting < poolkeeper.NoWaiting {
		errs = append(errs, fmt.Errorf(
			"sqlpool: MaxWaiting is %d; it must be NoWaiting, 0 (no limit) or positive", c.MaxWaiting,
		))
	}
	if c.MaxDials < 0 {
		errs = append(errs, fmt.Errorf("sqlpool: MaxDials is %d; it must not be negative", c.MaxDials))
	}
	if !(c.LifetimeJitter >= 0 && c.LifetimeJitter <= 1) { // written so that NaN is refused too
		errs = append(errs, fmt.Errorf("sqlpool: LifetimeJitter is %v; it must be 0 to 1", c.LifetimeJitter))
	}
	return errors.Join(errs...)
}

func (c config) validateTimes() error { return settings.Times("sqlpool", c.times()...) }

func (c config) times() []settings.Time {
	return []settings.Time{
		{Name: "MaxIdleTime", Value: c.MaxIdleTime, Off: true, Long: true},
		{Name: "MaxLifetime", Value: c.MaxLifetime, Off: true, Long: true},
		{Name: "KeepAlive", Value: c.KeepAlive, Off: true, Long: true},
		{Name: "AcquireTimeout", Value: c.AcquireTimeout, Off: true},
		{Name: "FailFastAfter", Value: c.FailFastAfter, Off: true},
		{Name: "LeakThreshold", Value: c.LeakThreshold, Off: true, Long: true},
		{Name: "SuspectPing", Value: c.SuspectPing, Off: true},
		{Name: "CloseGrace", Value: c.CloseGrace, Off: true},
		{Name: "FileInterval", Value: c.FileInterval, Off: true, Long: true},
		{Name: "EvictionInterval", Value: c.EvictionInterval},
		{Name: "ReclaimAfter", Value: c.ReclaimAfter, Long: true},
		{Name: "QueryTimeout", Value: c.QueryTimeout},
		{Name: "DialTimeout", Value: c.DialTimeout},
	}
}

func (c config) validateStart() error {
	if c.Start < poolkeeper.StartFailFast || c.Start > poolkeeper.StartDegraded {
		return fmt.Errorf("sqlpool: Start is %s; it must be StartFailFast, StartWaitForServer or StartDegraded", c.Start)
	}
	return nil
}

func (c config) fileFaults() error {
	return c.files().Clash("sqlpool: ", c.TLS, c.Credentials != nil)
}
