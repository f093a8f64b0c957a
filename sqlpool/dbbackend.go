package sqlpool

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/monotime"
)

func (b *dbBackend) check(ctx context.Context) error {
	return b.probe.Check(context.WithValue(ctx, evenIfDown{}, true))
}

func (b *dbBackend) resolve(cfg config, on secretFiles) (target, config, error) { return b.resolveBy(cfg, on) }

func (b *dbBackend) current() target { return b.connectorNow() }

func (b *dbBackend) try(ctx context.Context, to target, cfg *config) error {
	connector, ok := to.(driver.Connector)
	if !ok {
		return fmt.Errorf("sqlpool: not a driver.Connector: %T", to)
	}
	n, err := b.openNative(ctx, connector)
	if err != nil {
		return err
	}
	defer b.hangUpCheck(ctx, n)
	return b.asked(ctx, n, cfg.CheckQuery)
}

func (b *dbBackend) use(ctx context.Context, to target, cfg *config, elsewhere bool) {
	connector, _ := to.(driver.Connector)
	b.setConnector(connector, cfg.MaxOpen)
	if elsewhere {
		b.probe.Redial(ctx)
	}
}

func (b *dbBackend) pause() bool { return b.setPaused(true) }

func (b *dbBackend) resume() { b.setPaused(false) }

func (b *dbBackend) opening() bool { return b.load().dialing > 0 }

func (b *dbBackend) settle(ctx context.Context) error { return b.base.gate.Wait(ctx) }

func (b *dbBackend) dialCheck(ctx context.Context) (*native, error) {
	return checkDial(ctx, b.base, func(ctx context.Context) (*native, error) {
		ctx, cancel := context.WithTimeout(ctx, b.base.cfg().DialTimeout)
		defer cancel()
		return b.openNative(ctx, b.connectorNow())
	})
}

func (b *dbBackend) refuseAll(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting.Fail(b.waiting.Joined(), err)
}

func (b *dbBackend) answeredSince(then monotime.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for n := range b.all {
		if n.answeredSince(then) {
			return true
		}
	}
	return false
}

// ask is one check of a connection that is the check's own.
func (b *dbBackend) ask(ctx context.Context, n *native) error {
	asked := time.Now()
	err := b.asked(ctx, n, b.base.cfg().CheckQuery)
	if err == nil && n.Pinger != nil {
		b.base.link.Saw(time.Since(asked))
	}
	return err
}

// asked is one check of n, whose driver may panic.
func (b *dbBackend) asked(ctx context.Context, n *native, query string) error {
	c := b.base
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

func (b *dbBackend) hangUpCheck(ctx context.Context, n *native) {
	_ = b.hangUp(n, ctx.Done(), hangUpLimit) // how it went is of no use
}

// close closes the *sql.DB, which closes the idle connections and shuts the backend, and waits for
// what that set off.
func (b *dbBackend) close(ctx context.Context) error {
	err := b.closing.Do(ctx, b.db.Close)
	return errors.Join(err, stillUnderWay(b.pending.Wait(ctx)), b.probe.Close(ctx))
}

func (b *dbBackend) cut(idleToo bool) (cut, left int) {
	b.mu.Lock()
	all := make([]*native, 0, len(b.all))
	for n := range b.all {
		all = append(all, n)
	}
	b.mu.Unlock()
	for _, n := range all {
		if !idleToo && !b.base.held.Holds(&n.entry) {
			continue
		}
		if n.sock == nil {
			left++
			continue
		}
		b.base.cut(n.sock) // unblocks a caller that reads or writes
		cut++
	}
	return cut, left
}

// handleClosed runs when the *sql.DB has been closed, by Stop or by a caller.
func (b *dbBackend) handleClosed() error {
	ctx, cancel := context.WithTimeout(context.Background(), hangUpLimit) //nolint:forbidigo // DB.Close has no context
	defer cancel()
	return errors.Join(b.base.handleClosed(ctx), b.probe.Close(ctx))
}
