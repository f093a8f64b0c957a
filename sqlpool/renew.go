package sqlpool

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
)

// Secrets and certificates are renewed on disk by others, at any time, and not always all at once. So the files are
// looked at every FileInterval. What has changed is tried on a connection first; only when the server accepts it is it
// used for new connections, and the old ones are replaced as they become idle.

const (
	// soonestLook is the least time between two looks that failed logins ask for.
	soonestLook = 250 * time.Millisecond
	// secondThought is how long after Credentials has given a new answer it is asked again.
	secondThought = 2 * time.Second
)

// lookAtFiles renews what the files hold, in the background, unless that is under way already.
func (c *core) lookAtFiles() {
	if !c.looking.CompareAndSwap(false, true) {
		return
	}
	// Owner: the pool. It ends with what it dials, or with the pool's life; shut waits for it.
	c.work.run(func() {
		defer c.looking.Store(false)
		c.looked.Store(time.Now().UnixNano())
		select {
		case c.reloading <- struct{}{}:
		default:
			return // a Reload reads the files too, and a Pause will be over
		}
		defer func() { <-c.reloading }()
		if c.paused.Load() || c.reloadable() != nil {
			return
		}
		err := c.renew(c.life)
		trouble := ""
		if err != nil {
			trouble = err.Error()
		}
		if trouble != "" && trouble != c.trouble && c.life.Err() == nil {
			c.cfg().Logger.LogAttrs(c.life, slog.LevelWarn, "sqlpool: what the files hold is not used",
				slog.String("pool", c.poolName()), slog.Any("error", err))
		}
		c.trouble = trouble
	})
}

// renew puts what the files hold in effect, if it is new. It needs the turn to reload.
func (c *core) renew(ctx context.Context) error {
	cfg := c.cfg()
	now := readFiles(&c.asked)
	if now.err != nil || now.Contents == c.disk {
		return now.err
	}
	aim, _, err := c.back.aim(c.asked, now)
	if err != nil {
		return err
	}
	if err := c.tryTarget(ctx, aim, cfg); err != nil {
		return fmt.Errorf("the server does not accept it, and the old is kept: %w", asFault(err))
	}
	list := changesOnDisk(c.disk, now.Contents)
	c.disk = now.Contents
	c.back.use(ctx, aim, cfg, true)
	c.recycle(poolkeeper.EvictedReload)
	for _, ch := range list {
		cfg.Logger.LogAttrs(ctx, slog.LevelInfo, "sqlpool: renewed", slog.String("pool", c.poolName()), slog.String("field", ch.Field))
	}
	return nil
}

// doubt has the files looked at when a failed dial says that they may have changed.
func (c *core) doubt(err error) {
	cfg := c.cfg()
	if !cfg.hasFiles() || cfg.FileInterval <= 0 || time.Since(time.Unix(0, c.looked.Load())) < soonestLook {
		return
	}
	switch Classify(err).Kind { //nolint:exhaustive // the two that files can mend
	case health.KindAuthentication, health.KindTLS:
		c.lookAtFiles()
	}
}

// rotation compares the answers of Credentials that the server has accepted.
type rotation struct {
	mu        sync.Mutex // guards the following
	of        *Config    // whose answers they are
	known     bool
	login     [2]string
	wondering bool
	mints     bool // every answer is another
}

// loggedIn takes note of user and password that the server has accepted. If Credentials has changed its answer,
// connections that were opened by the old one are replaced: whoever rotates a password means to withdraw the old one.
func (c *core) loggedIn(user, password string) {
	cfg, now := c.cfg(), [2]string{user, password}
	r := &c.logins
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.of != cfg {
		r.of, r.known, r.mints = cfg, false, false
	}
	changed := r.known && r.login != now
	r.known, r.login = true, now
	if !changed || r.mints || r.wondering {
		return
	}
	r.wondering = true
	// Owner: the pool. It ends by itself, or with the pool's life; shut waits for it.
	c.work.run(func() { c.secondThought(cfg, now) })
}

// secondThought tells a password that was changed from tokens that are made anew for each who asks (AWS IAM):
// connections stay valid then, and replacing them would make for a new token, and so for ever.
func (c *core) secondThought(cfg *Config, now [2]string) {
	t := time.NewTimer(secondThought)
	defer t.Stop()
	select {
	case <-t.C:
	case <-c.life.Done():
	}
	ctx, cancel := context.WithTimeout(c.life, cfg.DialTimeout)
	defer cancel()
	again, err := [2]string{}, c.life.Err()
	if err == nil {
		again[0], again[1], err = cfg.Credentials(ctx)
	}
	r := &c.logins
	r.mu.Lock()
	r.wondering = false
	answered := err == nil && r.of == cfg
	same := again[1] == now[1] && (again[0] == now[0] || again[0] == "") // empty: that of URL
	r.mints = r.mints || answered && !same
	r.mu.Unlock()
	if answered && same {
		c.recycle(poolkeeper.EvictedReload)
	}
}
