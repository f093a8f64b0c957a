package sqlpool

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/monotime"
	"github.com/poolkeeper/poolkeeper/internal/rotation"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/fault"
)

// dialFailure is a time in which no connection could be opened. It never changes.
type dialFailure struct {
	since time.Time // when the first attempt began
	err   error     // of the last one
}

// noAnswerError is how it stands with a dial that is slow.
type noAnswerError struct{}

func (noAnswerError) Error() string { return "no answer yet" }

// HealthFault makes health.Classify know it.
func (noAnswerError) HealthFault() health.Fault { return health.FaultOf(health.KindTimeout) }

// dialEnded books how a dial of the pool's has ended. login is what Credentials said; nil: it was not
// asked.
func (c *base) dialEnded(began time.Time, login *rotation.Login, err error) {
	c.metrics.dial.Record(time.Since(began))
	c.dialled(began, err)
	if err != nil {
		c.metrics.dialErrors.Add(1)
		c.observer.Observe(err)
	} else {
		c.metrics.dials.Add(1)
	}
	c.onDial(login, err)
}

// dialled notes how an attempt to open a connection has ended, a check's included.
func (c *base) dialled(began time.Time, err error) {
	if err != nil {
		if !errors.Is(err, context.Canceled) { // one that was given up says nothing new
			c.noteDialFailure(began, err)
		}
		c.breaker.Failed(monotime.Of(began), err)
		return
	}
	c.lastDial.Store(int64(monotime.Of(began)))
	if c.dialFailing.Load() != nil {
		c.dialFailing.Store(nil)
	}
	c.dials.took(time.Since(began))
	c.link.Saw(time.Since(began) / 2) // a dial takes two round trips at least: one of TCP, one of the login
	c.breaker.Answer()
}

// dialsSlowly notes that an attempt to open a connection takes long.
func (c *base) dialsSlowly(began time.Time) {
	if c.dialFailing.Load() == nil {
		c.noteDialFailure(began, noAnswerError{})
	}
	c.breaker.Slow(monotime.Of(began))
}

// noteDialFailure notes why an attempt that began then gets no connection, unless one that began later
// has got one: that says more about the server.
func (c *base) noteDialFailure(began time.Time, err error) {
	if monotime.Of(began) < monotime.Time(c.lastDial.Load()) {
		return
	}
	if old := c.dialFailing.Load(); old != nil {
		began = old.since
	}
	c.dialFailing.Store(&dialFailure{began, err})
}

// cannotDial says why no connection can be opened, or nil.
func (c *base) cannotDial(now time.Time) error {
	t := c.dialFailing.Load()
	if t == nil {
		return nil
	}
	return fault.Wrap(fmt.Errorf("no connection could be opened for %s: %w", now.Sub(t.since).Round(time.Millisecond), t.err))
}
