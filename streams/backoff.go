package streams

import (
	"errors"
	"fmt"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/settings"
)

// Backoff says how a [Client] tries again. The zero value of each field means its default.
type Backoff struct {
	// Failures is how many attempts in a row have to fail until the client reports that the server
	// is down. Default: 3.
	Failures int
	// Min is how long the client waits after the first failure, and after a stream has ended. The
	// wait doubles with each further failure. Default: 1 s.
	Min time.Duration
	// Max bounds the wait, and what a server may ask for by Retry-After or retry. Default: 30 s.
	Max time.Duration
	// Jitter is the part by which a wait is shortened at most, at random. A wait that a server asks
	// for is never shortened. It is extended by up to this part of Min. Default: 0.5;
	// poolkeeper.NoJitter for none. Bounds: 0 to 1.
	Jitter float64
}

func (b Backoff) validate() error {
	errs := []error{settings.Times(pkg,
		settings.Time{Name: "Backoff.Min", Value: b.Min, Long: true}, settings.Time{Name: "Backoff.Max", Value: b.Max, Long: true})}
	if b.Failures < 0 {
		errs = append(errs, fmt.Errorf("%s: Backoff.Failures is %d; it must be positive or 0 (the default)", pkg, b.Failures))
	}
	if !(b.Jitter >= 0 && b.Jitter <= 1) { // written so that NaN is refused too
		errs = append(errs, fmt.Errorf("%s: Backoff.Jitter is %v; it must be from 0 to 1, or NoJitter", pkg, b.Jitter))
	}
	if d := b.withDefaults(); b.Min >= 0 && b.Max >= 0 && d.Max < d.Min {
		errs = append(errs, fmt.Errorf("%s: Backoff.Max is %s; it must be at least Min, %s", pkg, d.Max, d.Min))
	}
	return errors.Join(errs...)
}

func (b Backoff) withDefaults() Backoff {
	if b.Failures == 0 {
		b.Failures = 3
	}
	if b.Min == 0 {
		b.Min = time.Second
	}
	if b.Max == 0 {
		b.Max = 30 * time.Second
	}
	if b.Jitter == 0 {
		b.Jitter = 0.5
	}
	if b.Jitter <= poolkeeper.NoJitter {
		b.Jitter = 0
	}
	return b
}

// wait is how long to wait after so many failures in a row, 0 if a stream has ended that was open.
// asked is what the server has asked for; draw is a random number in [0, 1).
func (b Backoff) wait(failures int, asked time.Duration, draw float64) time.Duration {
	d := b.Min
	for range failures - 1 {
		if d >= b.Max/2 {
			d = b.Max
			break
		}
		d *= 2
	}
	d = min(d, b.Max)
	own := d - time.Duration(draw*b.Jitter*float64(d))
	if asked <= own {
		return own
	}
	// Clients that were asked for the same do not come back together, and none comes too early.
	return min(asked+time.Duration(draw*b.Jitter*float64(b.Min)), b.Max)
}
