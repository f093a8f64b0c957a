package eviction

import (
	"errors"
	"fmt"
	"time"
)

const (
	defaultBatch = 4
	least        = time.Millisecond      // of a given Interval
	minInterval  = 10 * time.Millisecond // of a derived Interval
	maxInterval  = 30 * time.Second      // of a derived Interval
)

// Policy says which idle connections are to be closed and how many are to be kept. It is a plain
// value; a zero Policy closes and opens nothing.
type Policy struct {
	// MinIdle is how many idle connections are kept open beside those in use. Fewer are topped up,
	// one at a time. Zero keeps none. Bounds: not negative.
	MinIdle int

	// MaxIdleTime is how long a connection may go unneeded before it is closed. It is closed at the
	// latest one Interval after that. Zero turns idle eviction off. Bounds: not negative.
	MaxIdleTime time.Duration

	// MaxLifetime is how long a connection may live, idle or not; it is closed at the first sweep
	// that finds it idle after that. Zero means no limit. Bounds: not negative.
	MaxLifetime time.Duration

	// LifetimeJitter is the part of MaxLifetime, between 0 and 1, that is spread out at random, so
	// that connections that were opened together do not expire together: each lives between
	// MaxLifetime × (1 − LifetimeJitter) and MaxLifetime. Zero means no spread.
	LifetimeJitter float64

	// KeepAlive is how long a connection may be silent before it is asked whether it still lives.
	// Zero means it is never asked. Bounds: not negative.
	KeepAlive time.Duration

	// Interval is how often demand is sampled while there is anything to decide: the resolution of
	// MaxIdleTime, and the least time between two sweeps. Zero means a tenth of MaxIdleTime, at
	// least 10 ms and at most 30 s, or 30 s where MaxIdleTime is off. Less than 1 ms counts as 1
	// ms. Bounds: not negative.
	Interval time.Duration

	// Batch is how many connections a sweep may keep out of callers' reach at once, to ask them.
	// Zero means 4. Bounds: not negative.
	Batch int
}

// Validate returns every fault of p, joined, or nil. It changes nothing.
func (p Policy) Validate() error {
	var errs []error
	counts := []struct {
		name  string
		value int
	}{{"MinIdle", p.MinIdle}, {"Batch", p.Batch}}
	for _, c := range counts {
		if c.value < 0 {
			errs = append(errs, fmt.Errorf("eviction: %s is %d; it must not be negative", c.name, c.value))
		}
	}
	durations := []struct {
		name  string
		value time.Duration
	}{{"MaxIdleTime", p.MaxIdleTime}, {"MaxLifetime", p.MaxLifetime}, {"KeepAlive", p.KeepAlive}, {"Interval", p.Interval}}
	for _, d := range durations {
		if d.value < 0 {
			errs = append(errs, fmt.Errorf("eviction: %s is %s; it must not be negative", d.name, d.value))
		}
	}
	if !(p.LifetimeJitter >= 0 && p.LifetimeJitter <= 1) { // written so that NaN is refused too
		errs = append(errs, fmt.Errorf("eviction: LifetimeJitter is %v; it must be between 0 and 1", p.LifetimeJitter))
	}
	return errors.Join(errs...)
}

// withDefaults returns p with its zero Interval and Batch filled in.
func (p Policy) withDefaults() Policy {
	if p.Interval == 0 {
		p.Interval = maxInterval
		if p.MaxIdleTime > 0 {
			p.Interval = min(max(p.MaxIdleTime/10, minInterval), maxInterval)
		}
	}
	p.Interval = max(p.Interval, least)
	if p.Batch == 0 {
		p.Batch = defaultBatch
	}
	return p
}

// soonest returns the shortest time after which a connection can come due for its age or for its
// silence, and false if neither is asked for.
func (p Policy) soonest() (time.Duration, bool) {
	d, ok := p.KeepAlive, p.KeepAlive > 0
	if p.MaxLifetime > 0 {
		if l := lifetime(p.MaxLifetime, p.LifetimeJitter, 1); !ok || l < d {
			d, ok = l, true
		}
	}
	return d, ok
}

// lifetime is how long a connection with this draw may live.
func lifetime(most time.Duration, jitter, draw float64) time.Duration {
	off := float64(most) * jitter * draw
	if off >= float64(most) { // which, as a float, may be above the largest duration
		return 0
	}
	return most - time.Duration(off)
}
