// Package latest keeps the values of Stats that describe the last attempt, not a count.
package latest

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/poolkeeper/poolkeeper"
)

// DialError keeps the last dial that failed. The zero DialError is ready to use. It is safe for
// concurrent use.
type DialError struct{ last atomic.Pointer[failure] }

// failure is a dial that failed. It never changes.
type failure struct {
	at  time.Time
	err error
}

// Note keeps err with the time of now, unless the dial was given up: that says nothing of the server.
func (d *DialError) Note(err error) {
	if !errors.Is(err, context.Canceled) {
		d.last.Store(&failure{time.Now(), err})
	}
}

// Report fills in the last error and its time.
func (d *DialError) Report(out *poolkeeper.Stats) {
	if f := d.last.Load(); f != nil {
		out.LastDialError, out.LastDialErrorTime = f.err, f.at
	}
}

// Fleet keeps the last comparison of the server's limits with the demand. The zero Fleet is ready to
// use. It is safe for concurrent use.
type Fleet struct {
	last atomic.Pointer[poolkeeper.FleetStats]
}

// Note keeps a copy of f, made now.
func (l *Fleet) Note(f poolkeeper.FleetStats) {
	f.Asked, f.Warnings = time.Now(), slices.Clone(f.Warnings)
	l.last.Store(&f)
}

// Report fills in a copy of the last comparison.
func (l *Fleet) Report(out *poolkeeper.Stats) {
	if f := l.last.Load(); f != nil {
		out.Fleet = *f
		out.Fleet.Warnings = slices.Clone(f.Warnings)
	}
}
