package redispool

import (
	"context"
	"fmt"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/event"
	"github.com/poolkeeper/poolkeeper/internal/life"
	"github.com/poolkeeper/poolkeeper/internal/onfile"
	"github.com/poolkeeper/poolkeeper/internal/rotation"
)

// Secrets and certificates are renewed on disk by others, at any time, and not always all at once.
// So the files are looked at every FileInterval. What has changed is tried on a connection first;
// only when the server accepts it is it used for new connections, and the old ones are replaced as
// they become idle.

// minPollInterval is the least time between two looks that failed logins ask for.
const minPollInterval = 250 * time.Millisecond

// watchFiles sets the timer for the next look, if the pool runs and there are files, and else stops
// it.
func (p *Pool) watchFiles() {
	c := p.config()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.nextPoll != nil {
		p.nextPoll.Stop()
		p.nextPoll = nil
	}
	if p.state.At() == life.Running && c.files().Any() && c.FileInterval > 0 {
		p.polledAt = time.Now()
		p.nextPoll = time.AfterFunc(c.FileInterval, p.pollFiles)
	}
}

// pollSoon brings the next look forward: the server does not accept what was read last.
func (p *Pool) pollSoon() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.nextPoll != nil && time.Since(p.polledAt) >= minPollInterval {
		p.polledAt = time.Now()
		p.nextPoll.Reset(0)
	}
}

// pollFiles is the timer's function. Stop waits for it as for a dial.
func (p *Pool) pollFiles() {
	if !p.dialing.Enter() {
		return
	}
	defer p.dialing.Leave()
	defer p.watchFiles()
	p.warnOfExpiries()
	if !p.state.TryBeginChange() {
		return // a Reload reads the files too, and a Pause will be over
	}
	defer p.state.EndChange()
	err := p.events.Guarded(ownUse, func() error { return p.renew(p.life) })
	trouble := ""
	if err != nil {
		trouble = err.Error()
	}
	if trouble != "" && trouble != p.renewal && p.life.Err() == nil {
		p.events.Emit(event.OfRenewalRefused(err))
	}
	p.renewal = trouble
}

// renew puts what the files hold in effect, if it is new. The caller has begun a change.
func (p *Pool) renew(ctx context.Context) error {
	cfg, was := p.config(), p.endpoint.Load()
	now, err := cfg.readFiles()
	if err != nil || now == was.target.disk {
		return err
	}
	t := was.target
	t.disk = now
	s := staged{cfg: *cfg, endpoint: p.newEndpoint(t, *cfg, was.given), changes: onfile.Differ(was.target.disk, now), leads: true}
	if err := p.try(ctx, s.endpoint); err != nil {
		return fmt.Errorf("the server does not accept it, and the old is kept: %w", asFault(err))
	}
	if err := p.switchTo(ctx, s); err != nil {
		return err
	}
	p.events.Emit(event.OfRenewal(s.changes))
	return nil
}

// doubt has the files looked at when a failure says that they may have changed.
func (n *node) doubt(err error) {
	if !n.pool.config().files().Any() {
		return
	}
	switch Classify(err).Kind { //nolint:exhaustive // the two that files can mend
	case health.KindAuthentication, health.KindTLS:
		n.pool.pollSoon()
	}
}

// login asks for user and password, and takes note of them.
func (p *Pool) login(ctx context.Context) (user, password string, err error) {
	a := p.endpoint.Load()
	user, password, err = p.ask(ctx, a)
	if err != nil {
		return "", "", err
	}
	p.noteLogin(a, loginOf(user, password))
	return user, password, nil
}

// noteLogin takes note of the login by a of a connection that is being opened. If it has changed by
// itself for good, connections that were opened by the old one are replaced.
func (p *Pool) noteLogin(a *endpoint, now rotation.Login) {
	if !a.logins.Changed(now) || !p.dialing.Enter() {
		return
	}
	// Owner: the pool, which waits for it at Stop as for a dial. It ends by itself, or with the
	// pool's life.
	go func() {
		defer p.dialing.Leave()
		_ = p.events.Guarded(ownUse, func() error { p.replaceRotated(a, now); return nil })
	}()
}

// replaceRotated replaces connections that have logged in by another login, if the answer of a's
// credentials has changed to now for good.
func (p *Pool) replaceRotated(a *endpoint, now rotation.Login) {
	if a.logins.Lasting(p.life, p.patience(), now, func(ctx context.Context) (rotation.Login, error) {
		user, password, err := p.ask(ctx, a)
		return loginOf(user, password), err
	}) {
		p.events.Emit(event.OfRenewal([]poolkeeper.Change{{Field: "Credentials", From: "…", To: "…"}}))
		p.countGeneration()
		p.recycle(p.life, func(c *conn) bool {
			by := c.start.by.Load()
			return by != nil && *by != now
		})
	}
}

// files are what is read from disk.
func (c Config) files() onfile.Names {
	return onfile.Names{TLSFiles: c.TLSFiles, Credentials: c.CredentialsFile}
}

func (c Config) readFiles() (onfile.Contents, error) { return onfile.Read("redispool: ", c.files()) }

// ask asks the service for user and password.
func (p *Pool) ask(ctx context.Context, a *endpoint) (user, password string, err error) {
	err = p.events.Guarded("Credentials", func() error {
		user, password, err = a.credentials(ctx)
		return err
	})
	return user, password, err
}
