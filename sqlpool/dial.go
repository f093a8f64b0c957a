package sqlpool

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/breaker"
	"github.com/poolkeeper/poolkeeper/internal/monotime"
	"github.com/poolkeeper/poolkeeper/internal/rotation"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/fault"
)

// hangUpLimit bounds how long a caller that returns a broken or surplus connection waits for its
// driver to close it (INV-10). The close goes on in the background, and its socket is closed if it
// can be reached.
const hangUpLimit = time.Second

// slowDial is the least time after which a dial counts as slow: it no longer holds up others, and
// makes room for them. While an address does not answer, some attempt is young at any time, and so
// the first to find it back.
const slowDial = 500 * time.Millisecond

// dialTimes follows how long it takes to open a connection, so that a dial over a slow link is not
// given up as slow.
type dialTimes struct{ limit atomic.Int64 } // a time.Duration

// slow is the time after which a dial counts as slow: twice what the last one took, and twice as
// long again for each whose login was given up, from slowDial to half of timeout.
func (t *dialTimes) slow(timeout time.Duration) time.Duration {
	return max(slowDial, min(time.Duration(t.limit.Load()), timeout/2))
}

// took notes how long a dial has taken.
func (t *dialTimes) took(d time.Duration) { t.limit.Store(int64(2 * d)) }

// gaveUp notes that a dial was given up because it was slow. Unless the network had not got
// through, the server may be there, and the next dial may take twice as long. Of those that began
// with the same limit one counts.
func (t *dialTimes) gaveUp(d *dialing) {
	limit := d.patience
	if d.connecting.Load() {
		return
	}
	if now := t.limit.Load(); now <= int64(limit) {
		t.limit.CompareAndSwap(now, int64(2*limit))
	}
}

// slowDial returns after how long a dial that begins now counts as slow.
func (c *base) slowDial() time.Duration { return c.dials.slow(c.cfg().DialTimeout) }

// dialKey is how the driver's dial function finds the dial it belongs to.
type dialKey struct{}

// dialing is one connection being opened.
type dialing struct {
	began      time.Time
	patience   time.Duration // after which it counts as slow
	asked      uint64        // callers that had queued by then
	generation uint64
	sock       net.Conn        // below TLS
	connecting atomic.Bool     // the network has not got through yet
	login      *rotation.Login // what Credentials said; nil: it was not asked
	cancel     context.CancelFunc
	done       func() // stops what watches it

	// guarded by the backend's mutex
	slow     bool
	gone     bool // on pgxpool: the caller that caused it has given up
	replaced bool // it was cancelled to make room for a younger one
	over     bool // it has ended, and its timers may not have noticed
}

// connect opens the socket of a dial, and keeps it.
func (d *dialing) connect(dial func() (net.Conn, error)) (net.Conn, error) {
	d.connecting.Store(true)
	sock, err := dial()
	if err == nil {
		d.sock = sock
		d.connecting.Store(false)
	}
	return sock, err
}

// refusedByAll reports whether a failed dial answers all callers that waited when it began, if no
// open connection could be returned: the server refuses connections. A dial for each caller,
// MaxDials at a time, would only delay them.
func refusedByAll(err error) bool { return fault.Classify(err).Kind == health.KindRefused }

// connectGuarded opens a connection by the driver, whose functions may be the service's. A panic of
// theirs is an error: here it would end the process, where under plain database/sql it ends one
// request.
func (c *base) connectGuarded(ctx context.Context, connector driver.Connector) (conn driver.Conn, err error) {
	err = c.events.Guarded("the driver's Connect", func() error {
		conn, err = connector.Connect(ctx)
		return err
	})
	if err == nil && conn == nil {
		err = errors.New("the driver returned neither a connection nor an error")
	}
	return conn, err
}

// belowTLS returns the connection under c if c is TLS: closing TLS wants to say goodbye first,
// which can take 5 s.
func belowTLS(c net.Conn) net.Conn {
	if t, ok := c.(interface{ NetConn() net.Conn }); ok {
		return t.NetConn()
	}
	return c
}

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

// dialEnded books how a dial of the pool's has ended. login is what Credentials said; nil: it was
// not asked.
func (c *base) dialEnded(began time.Time, login *rotation.Login, err error) {
	took := time.Since(began)
	c.metrics.dial.Record(took)
	if err == nil && took < slowDial {
		c.pace.Opened()
	}
	if err != nil {
		switch fault.Judge(err) {
		case breaker.Refused, breaker.Silent:
			c.pace.Failed()
		case breaker.Answered, breaker.Unknown:
		}
	}
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
		c.metrics.failed(err)
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
	c.pace.Slow(monotime.Of(began))
	c.breaker.Slow(monotime.Of(began))
}

// rearm makes t call f after wait. The caller guards t.
func rearm(t **time.Timer, wait time.Duration, f func()) {
	if *t == nil {
		*t = time.AfterFunc(wait, f)
		return
	}
	(*t).Reset(wait)
}

// evicted counts a closed connection.
func (c *base) evicted(reason string) {
	c.metrics.evicted(reason)
	switch reason {
	case poolkeeper.EvictedDead, poolkeeper.EvictedFailover:
		c.pace.Spend()
	}
}

// noteDialFailure notes why an attempt that began then gets no connection, unless one that began
// later has got one: that says more about the server.
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
	return fault.Wrap(fmt.Errorf("no connection could be opened for %s: %w",
		now.Sub(t.since).Round(time.Millisecond), t.err))
}
