// Package dialpace decides when a pool may open a connection, so that all instances of a service
// together leave their server alive.
//
//	             success: + 1, to MaxDials
//	          ┌───────────────────────────┐
//	window ───┤                           │  dials at once: a slow server is asked less
//	          └── slow, failed, lost: 1 ◀─┘
//
//	credit    + FleetRate / Instances per second, to MaxOpen     dials per second, of an instance
//	          − 1 for each dial, and for each connection that is lost
//
// The window needs no configuration. It stops what overload feeds on: a server that takes longer for
// each login the more of them it gets, while the instances give slow logins up and begin new ones.
//
// Credit bounds the rate of logins of all Instances after a failure that hits them at once. A
// pool that works has credit for all its connections, so that growing costs no wait. A cold start,
// or connections that are lost, leave none: then each instance opens its share, one after the other.
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
	// fleetPart is the part of all connections of a fleet that may be opened in one second, so that
	// all are back after 25 s.
	fleetPart = 0.04
	// serverRate is how many logins per second a small fleet may ask for. A login costs PostgreSQL
	// and MySQL, the dearest, a process or thread and some milliseconds.
	serverRate = 100
)

// Limits are the settings that a Pace obeys.
type Limits struct {
	MaxDials  int // dials at once, at least 1
	MaxOpen   int // connections of one instance
	Instances int // 0 or 1: no credit is needed
}

// Interval is the time between two dials of one instance that has no credit. 0: it needs none.
func (l Limits) Interval() time.Duration {
	if l.Instances <= 1 {
		return 0
	}
	rate := max(serverRate, fleetPart*float64(l.Instances)*float64(l.MaxOpen)) // of the fleet, in a second
	return time.Duration(float64(time.Second) * float64(l.Instances) / rate)
}

// Pace is the pace of one pool. All methods are safe for concurrent use. Await alone blocks.
type Pace struct {
	limits func() Limits

	mu     sync.Mutex // guards the following
	window int
	cut    monotime.Time // when the window was cut last: what began before says nothing new
	credit float64       // dials, counted at
	at     monotime.Time
	due    float64 // the credit that the next dial needs: about 1, drawn at random
}

// New returns the Pace of a pool that has no connections yet. limits must not block.
func New(limits func() Limits) *Pace {
	return &Pace{limits: limits, window: 1, credit: 2, at: monotime.Now(), due: 1} // for the check of Start, and a caller
}

// Window returns how many dials may be under way at once.
func (p *Pace) Window() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return min(p.window, p.limits().MaxDials)
}

// Take takes the right to a dial, and returns 0. If there is no credit it takes nothing, and returns
// when to ask again.
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

// Await takes the right to a dial when there is one, and reports false if ctx ends before.
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

// Err says that dials wait for credit now, or returns nil.
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

// Spend notes a dial that does not wait: a health check, or the trial of a breaker.
func (p *Pace) Spend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.spendLocked()
}

func (p *Pace) spendLocked() {
	l := p.limits()
	p.earnLocked(l, l.Interval())
	p.credit = max(p.credit-1, 0)
}

// earnLocked adds the credit of the time that went by.
func (p *Pace) earnLocked(l Limits, interval time.Duration) {
	now := monotime.Now()
	if interval > 0 {
		p.credit = min(p.credit+float64(now.Sub(p.at))/float64(interval), max(float64(l.MaxOpen), 2))
	}
	p.at = now
}

// Lost notes a connection that has died, or is to be replaced: opening another one is no growth.
func (p *Pace) Lost() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.spendLocked()
	p.window = 1
}

// Opened notes a dial that has succeeded, and was not slow.
func (p *Pace) Opened() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.window = min(p.window+1, p.limits().MaxDials)
}

// Slow notes that a dial which began then takes long.
func (p *Pace) Slow(began monotime.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if began < p.cut {
		return
	}
	p.window, p.cut = 1, monotime.Now()
}

// Failed notes that the server could not be reached. Nothing is earned in an outage.
func (p *Pace) Failed() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.window, p.credit, p.at = 1, 0, monotime.Now()
}

// Interval is that of the limits now.
func (p *Pace) Interval() time.Duration { return p.limits().Interval() }
