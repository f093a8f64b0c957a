// Package dialpace decides when a pool may open a connection. It keeps the instances of a service from
// overloading their server with logins.
//
//	             success: + 1, to MaxDials
//	          ┌───────────────────────────┐
//	window ───┤                           │  dials at once
//	          └── slow or failed: 1 ◀─────┘
//
//	credit    + 1 after each Interval, up to MaxOpen     dials per second of one instance
//	          − 1 for each dial, and for each connection that is lost
//
// The window needs no configuration. It breaks the loop of an overload: the more logins a server gets,
// the longer each takes, while the instances give slow logins up and begin new ones.
//
// Credit bounds the rate of logins of all Instances after a failure that hits them at once. A pool
// that works has credit for all its connections, so it grows without a wait. A cold start, or lost
// connections, leave no credit. Then each instance opens its connections one after the other.
package dialpace

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/monotime"
	"github.com/poolkeeper/poolkeeper/internal/retry"
)

const (
	// fleetPart is the part of a fleet's connections that may be opened in one second. All of them
	// are back after 25 s.
	fleetPart = 0.04
	// serverRate is how many logins per second a small fleet may ask for. A login costs PostgreSQL a
	// process, MySQL a thread, and both some milliseconds.
	serverRate = 100
)

// Limits are the settings of a Pace.
type Limits struct {
	MaxDials  int // dials at once, at least 1
	MaxOpen   int // connections of one instance
	Instances int // 0 or 1: no credit is needed
}

// Interval returns how long one instance takes to earn a dial. 0: it needs no credit.
func (l Limits) Interval() time.Duration {
	if l.Instances <= 1 {
		return 0
	}
	rate := max(serverRate, fleetPart*float64(l.Instances)*float64(l.MaxOpen)) // of the fleet, in a second
	return time.Duration(float64(time.Second) * float64(l.Instances) / rate)
}

// Pace decides when one pool may dial. All methods are safe for concurrent use. Only Await blocks.
type Pace struct {
	limits func() Limits

	mu     sync.Mutex // guards the following
	window int
	cut    monotime.Time // of the last cut of the window; a slow dial from before does not cut it again
	credit float64       // in dials, as of at
	at     monotime.Time
	due    float64 // the credit that the next dial needs: 0.5 to 1.5, at random
}

// New returns the Pace of a pool that has no connections yet. limits must not block.
func New(limits func() Limits) *Pace {
	const credit = 2 // for the check of Start and one caller
	return &Pace{limits: limits, window: 1, credit: credit, at: monotime.Now(), due: 1}
}

// Window returns how many dials may run at once.
func (p *Pace) Window() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return min(p.window, p.limits().MaxDials)
}

// Take takes the credit for one dial and returns 0. Without enough credit it takes nothing and returns
// how long to wait.
func (p *Pace) Take() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.limits()
	interval := l.Interval()
	if interval == 0 {
		return 0
	}
	p.earnLocked(l, interval)
	if p.credit < p.due {
		return time.Duration((p.due-p.credit)*float64(interval)) + 1
	}
	p.credit--
	p.due = 0.5 + rand.Float64() // instances that lost their connections together do not stay in step
	return 0
}

// Await waits for the credit for one dial and takes it. It reports false if ctx ends before.
func (p *Pace) Await(ctx context.Context) bool {
	for ctx.Err() == nil {
		wait := p.Take()
		if wait == 0 {
			return true
		}
		retry.Sleep(ctx, wait)
	}
	return false
}

// Err returns an error that says why dials wait for credit now, or nil if they do not.
func (p *Pace) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.limits()
	interval := l.Interval()
	p.earnLocked(l, interval)
	if interval == 0 || p.credit >= p.due {
		return nil
	}
	return fmt.Errorf("after a start or an outage one connection is opened every %s, because %d instances share the server",
		interval.Round(10*time.Millisecond), l.Instances)
}

// Spend takes the credit for a dial that does not wait, of a health check or of the breaker's trial, and
// for a connection that is lost: opening another one is no growth.
func (p *Pace) Spend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.limits()
	p.earnLocked(l, l.Interval())
	p.credit = max(p.credit-1, 0)
}

// earnLocked adds the credit for the time since it was last called.
func (p *Pace) earnLocked(l Limits, interval time.Duration) {
	now := monotime.Now()
	if interval > 0 {
		p.credit = min(p.credit+float64(now.Sub(p.at))/float64(interval), max(float64(l.MaxOpen), 2))
	}
	p.at = now
}

// Opened notes a dial that succeeded and was not slow. It opens the window by 1.
func (p *Pace) Opened() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.window = min(p.window+1, p.limits().MaxDials)
}

// Slow notes that the dial that began at began is slow. It cuts the window.
func (p *Pace) Slow(began monotime.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if began < p.cut {
		return
	}
	p.window, p.cut = 1, monotime.Now()
}

// Failed notes that the server could not be reached. It cuts the window and takes all credit.
func (p *Pace) Failed() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.window, p.credit, p.at = 1, 0, monotime.Now()
}

// Interval returns the Interval of the present limits.
func (p *Pace) Interval() time.Duration { return p.limits().Interval() }
