package sqlpool

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/event"
	"github.com/poolkeeper/poolkeeper/internal/monotime"
	"github.com/poolkeeper/poolkeeper/internal/onfile"
	"github.com/poolkeeper/poolkeeper/internal/rotation"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/fault"
)

// Secrets and certificates are renewed on disk by others, at any time, and not always all at once.
// So the files are looked at every FileInterval. What has changed is tried on a connection first;
// only when the server accepts it is it used for new connections, and the old ones are replaced as
// they become idle.

// soonestLook is the least time between two looks that failed logins ask for.
const soonestLook = 250 * time.Millisecond

// lookAtFiles renews what the files hold, in the background, unless that is under way already.
func (c *core) lookAtFiles() {
	if !c.looking.CompareAndSwap(false, true) {
		return
	}
	// Owner: the pool. It ends with what it dials, or with the pool's life; shut waits for it.
	c.work.Go(func() {
		defer c.looking.Store(false)
		c.looked.Store(int64(monotime.Now()))
		if !c.state.TryTurn() {
			return // a Reload reads the files too, and a Pause will be over
		}
		defer c.state.EndTurn()
		if c.paused.Load() || c.state.At().Refusal() != nil {
			return
		}
		err := c.events.Guarded("a hook, when files had changed", func() error { return c.renew(c.life) })
		trouble := ""
		if err != nil {
			trouble = err.Error()
		}
		if trouble != "" && trouble != c.renewal && c.life.Err() == nil {
			c.events.Emit(event.OfRenewalRefused(err))
		}
		c.renewal = trouble
	})
}

// renew puts what the files hold in effect, if it is new. It needs the turn to reload.
func (c *core) renew(ctx context.Context) error {
	cfg := c.cfg()
	now := c.asked.readFiles()
	if now.err != nil || now.Contents == *c.disk.Load() {
		return now.err
	}
	aim, _, err := c.back.aim(*c.asked, now)
	if err != nil {
		return err
	}
	if err := c.tryTarget(ctx, aim, cfg); err != nil {
		return fmt.Errorf("the server does not accept it, and the old is kept: %w", fault.Wrap(err))
	}
	list := onfile.Differ(*c.disk.Load(), now.Contents)
	c.disk.Store(&now.Contents)
	c.back.use(ctx, aim, cfg, true)
	c.reset(poolkeeper.EvictedReload)
	c.events.Emit(event.OfRenewal(list))
	return nil
}

// doubt has the files looked at when a failed dial says that they may have changed.
func (c *core) doubt(err error) {
	cfg := c.cfg()
	if !cfg.files().Any() || cfg.FileInterval <= 0 || monotime.Since(monotime.Time(c.looked.Load())) < soonestLook {
		return
	}
	switch fault.Classify(err).Kind { //nolint:exhaustive // the two that files can mend
	case health.KindAuthentication, health.KindTLS:
		c.lookAtFiles()
	}
}

// loggedIn takes note of user and password that the server has accepted. If Credentials has changed
// its answer for good, connections that were opened by the old one are replaced.
func (c *core) loggedIn(user, password string) {
	cfg, w, now := c.cfg(), c.logins.Load(), rotation.Login{User: user, Password: password}
	if cfg.Credentials == nil || !w.Changed(now) { // nil: a Reload is just doing away with it
		return
	}
	// Owner: the pool. It ends by itself, or with the pool's life; shut waits for it.
	c.work.Go(func() {
		if w.Lasting(c.life, cfg.DialTimeout, now, func(ctx context.Context) (rotation.Login, error) {
			again, err := c.askLogin(ctx, cfg.Credentials)
			again.User = cmp.Or(again.User, user) // without one: that of URL
			return again, err
		}) && c.logins.Load() == w {
			c.reset(poolkeeper.EvictedReload)
			c.events.Emit(event.OfRenewal([]poolkeeper.Change{{Field: "Credentials", From: "…", To: "…"}}))
		}
	})
}
