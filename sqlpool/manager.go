package sqlpool

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/event"
	"github.com/poolkeeper/poolkeeper/internal/expiry"
	"github.com/poolkeeper/poolkeeper/internal/inflight"
	"github.com/poolkeeper/poolkeeper/internal/monotime"
	"github.com/poolkeeper/poolkeeper/internal/onfile"
	"github.com/poolkeeper/poolkeeper/internal/retry"
	"github.com/poolkeeper/poolkeeper/internal/rotation"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/fault"
)

// manager runs the life of a pool: it starts, drains, stops, pauses and reloads it, checks the
// server, and looks at files and holders.
type manager struct {
	*base

	back      backend
	unreached atomic.Bool    // it has been said that reclaiming is out of reach
	work      inflight.Group // goroutines that renew secrets
	silence   atomic.Int64   // nanoseconds after which the server closes a session; 0: never, or not known
	looking   atomic.Bool
	looked    atomic.Int64                    // a monotime.Time: the last look at files
	logins    atomic.Pointer[rotation.Watch]  // what Credentials has answered, since it was configured
	inEffect  atomic.Pointer[onfile.Contents] // what the files hold that is used

	// The turn of state guards the following. It is that of a Reload, a Pause or a look at files.
	// asked is the configuration in effect, as it was given. It is a pointer, because fmt prints one
	// level of what a pool points to.
	asked   *config
	renewal string // what was wrong with the files, said last

	seekers  retry.Seekers
	pausedAt atomic.Int64 // a monotime.Time: when callers began to wait for Resume
	expiring expiry.Watch
}

// newManager returns the manager of back, which reports to b.
func newManager(b *base, back backend, on secretFiles) *manager {
	m := &manager{base: b, back: back, asked: &on.asked}
	m.inEffect.Store(&on.Contents)
	m.logins.Store(new(rotation.Watch))
	b.watches = m.watchesFor(b.cfg())
	b.breaker = m.newBreaker()
	b.onDial = m.dialEnded
	b.onRefusedWrite = m.sendSeeker
	return m
}

// book is what expires of the way in which connections are opened now; nil: nothing is known.
func (m *manager) book() *expiry.Book {
	if t, ok := m.back.current().(interface{ expiries() *expiry.Book }); ok {
		return t.expiries()
	}
	return nil
}

// warnOfExpiries says what expires soon, or has expired. It has no timer of its own: dials, checks
// and looks at files call it.
func (m *manager) warnOfExpiries() {
	m.expiring.Due(m.book(), func(e poolkeeper.Expiry, now time.Time) { m.events.Emit(event.OfExpiry(e, now)) })
}

// dialEnded draws conclusions for the secrets from how a dial has ended.
func (m *manager) dialEnded(login *rotation.Login, err error) {
	m.warnOfExpiries()
	switch {
	case err != nil:
		m.dialFailed(err)
	case login != nil:
		m.loggedIn(*login)
	}
}

// start reaches the server as the policy says, then sets eviction and leak reports going. If it
// fails it leaves nothing of its own running (INV-13); the handle still wants a Stop.
func (m *manager) start(ctx context.Context) error {
	return m.state.Start(ctx, m.reachServer, m.startWatches)
}

// reachServer reaches the server as the policy says.
func (m *manager) reachServer(ctx context.Context) error {
	reached, err := m.state.Reach(ctx, m.cfg().Start, m.events, m.attempt)
	if reached {
		m.warnOfLimits(ctx)
	}
	if err == nil && m.evictor != nil {
		err = m.evictor.Start(ctx)
	}
	return err
}

// startWatches has leaks be reported, and files be looked at.
func (c *base) startWatches() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.watches {
		w.Start()
	}
}

// attempt is one check, bounded by DialTimeout (INV-10), and the search for why it failed.
func (m *manager) attempt(start context.Context) error {
	ctx, cancel := context.WithTimeout(start, m.cfg().DialTimeout)
	defer cancel()
	began := monotime.Now()
	err := m.back.check(ctx)
	if err != nil && m.cfg().Start == poolkeeper.StartDegraded {
		m.breaker.Trip(began, err)
	}
	return fault.Wrap(m.explain(start, err))
}
