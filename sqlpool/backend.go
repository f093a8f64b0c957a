package sqlpool

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/life"
	"github.com/poolkeeper/poolkeeper/internal/monotime"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/checkconn"
)

// driverBackend works on a store and the *sql.DB above it.
type driverBackend struct {
	store   *store
	probe   *checkconn.Conn[*native]
	closing life.Closer
	aimAt   func(config, disk) (driver.Connector, config, error)
}

func (b *driverBackend) check(ctx context.Context) error {
	return b.probe.Check(context.WithValue(ctx, anyway{}, true))
}

func (b *driverBackend) stats(out *poolkeeper.Stats) { b.store.stats(out) }

// lostPlaces is 0: the place of a reclaimed connection is free at once.
func (b *driverBackend) lostPlaces() int { return 0 }

func (b *driverBackend) dialing() int {
	b.store.mu.Lock()
	defer b.store.mu.Unlock()
	return b.store.dialing
}

func (b *driverBackend) aim(cfg config, on disk) (target, config, error) { return b.aimAt(cfg, on) }

func (b *driverBackend) current() target { return b.store.aim() }

func (b *driverBackend) try(ctx context.Context, aim target, cfg *config) error {
	connector, ok := aim.(driver.Connector)
	if !ok {
		return fmt.Errorf("sqlpool: not a driver.Connector: %T", aim)
	}
	n, err := b.store.reach(ctx, connector)
	if err != nil {
		return err
	}
	defer b.hangUpCheck(ctx, n)
	return b.asked(ctx, n, cfg.CheckQuery)
}

func (b *driverBackend) use(ctx context.Context, aim target, cfg *config, elsewhere bool) {
	connector, _ := aim.(driver.Connector)
	b.store.use(connector, cfg.MaxOpen)
	if elsewhere {
		b.probe.Redial(ctx)
	}
}

func (b *driverBackend) pause() bool { return b.store.setPaused(true) }

func (b *driverBackend) resume() { b.store.setPaused(false) }

func (b *driverBackend) emptied(ctx context.Context) error {
	return emptied(ctx, b.store.core, func() bool { return b.dialing() > 0 })
}

func (b *driverBackend) flush() { b.store.flush() }

func (b *driverBackend) settle(ctx context.Context) error { return b.store.core.gate.Wait(ctx) }

func (b *driverBackend) dialCheck(ctx context.Context) (*native, error) {
	return checkDial(ctx, b.store.core, func(ctx context.Context) (*native, error) {
		ctx, cancel := context.WithTimeout(ctx, b.store.core.cfg().DialTimeout)
		defer cancel()
		return b.store.reach(ctx, b.store.aim())
	})
}

func (b *driverBackend) refuseAll(err error) {
	s := b.store
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting.Fail(s.waiting.Joined(), err)
}

func (b *driverBackend) answeredSince(then monotime.Time) bool {
	s := b.store
	s.mu.Lock()
	defer s.mu.Unlock()
	for n := range s.all {
		if n.answeredSince(then) {
			return true
		}
	}
	return false
}

// ask is one check of a connection that is the check's own.
func (b *driverBackend) ask(ctx context.Context, n *native) error {
	asked := time.Now()
	err := b.asked(ctx, n, b.store.core.cfg().CheckQuery)
	if err == nil && n.Pinger != nil {
		b.store.core.link.Saw(time.Since(asked))
	}
	return err
}

// asked is one check of n, whose driver may panic.
func (b *driverBackend) asked(ctx context.Context, n *native, query string) error {
	c := b.store.core
	return c.answered(c.guarded("the driver, in a check,", func() error { return askBy(ctx, n, query) }))
}

func askBy(ctx context.Context, n *native, query string) error {
	if query != "" {
		return n.Run(ctx, query)
	}
	if n.Pinger != nil {
		return n.Pinger.Ping(ctx)
	}
	return nil
}

func (b *driverBackend) hangUpCheck(ctx context.Context, n *native) {
	_ = b.store.hangUp(n, ctx.Done(), hangUpLimit) // how it went is of no use
}

// close closes the *sql.DB, which closes the idle connections and shuts the store, and waits for
// what that set off.
func (b *driverBackend) close(ctx context.Context) error {
	err := b.closing.Do(ctx, b.store.db.Close)
	return errors.Join(err, stillUnderWay(b.store.left.Wait(ctx)), b.probe.Close(ctx))
}

func (b *driverBackend) cut(idleToo bool) (cut, left int) {
	s := b.store
	s.mu.Lock()
	all := make([]*native, 0, len(s.all))
	for n := range s.all {
		all = append(all, n)
	}
	s.mu.Unlock()
	for _, n := range all {
		if !idleToo && !s.core.held.Holds(&n.entry) {
			continue
		}
		if n.sock == nil {
			left++
			continue
		}
		s.core.cut(n.sock) // unblocks a caller that reads or writes
		cut++
	}
	return cut, left
}

// handleClosed runs when the *sql.DB has been closed, by Stop or by a caller.
func (s *store) handleClosed() error {
	ctx, cancel := context.WithTimeout(context.Background(), hangUpLimit) //nolint:forbidigo // DB.Close has no context
	defer cancel()
	err := s.core.handleClosed(ctx)
	if b, ok := s.core.back.(*driverBackend); ok {
		err = errors.Join(err, b.probe.Close(ctx))
	}
	return err
}
