package redispool

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/poolkeeper/poolkeeper/health"
)

// Secrets and certificates are renewed on disk by others, at any time, and not always all at once. So the files are
// looked at every FileInterval. What has changed is tried on a connection first; only when the server accepts it is it
// used for new connections, and the old ones are replaced as they become idle.

const (
	// soonest is the least time between two looks that failed logins ask for.
	soonest = 250 * time.Millisecond
	// secondThought is how long after Credentials has given a new answer it is asked again.
	secondThought = 2 * time.Second
)

// watchFiles sets the timer for the next look, if the pool runs and there are files, and else stops it.
func (p *Pool) watchFiles() {
	c := p.config()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.nextLook != nil {
		p.nextLook.Stop()
		p.nextLook = nil
	}
	if p.phase == phaseRunning && c.hasFiles() && c.FileInterval > 0 {
		p.looked = time.Now()
		p.nextLook = time.AfterFunc(c.FileInterval, p.lookAtFiles)
	}
}

// lookSoon brings the next look forward: the server does not accept what was read last.
func (p *Pool) lookSoon() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.nextLook != nil && time.Since(p.looked) >= soonest {
		p.looked = time.Now()
		p.nextLook.Reset(0)
	}
}

// lookAtFiles is the timer's function. Stop waits for it as for a dial.
func (p *Pool) lookAtFiles() {
	if !p.dialing.Enter() {
		return
	}
	defer p.dialing.Leave()
	defer p.watchFiles()
	select {
	case p.reloading <- struct{}{}:
	default:
		return // a Reload reads the files too, and a Pause will be over
	}
	defer func() { <-p.reloading }()
	err := p.renew(p.life)
	trouble := ""
	if err != nil {
		trouble = err.Error()
	}
	if trouble != "" && trouble != p.trouble && p.life.Err() == nil {
		p.logger().LogAttrs(p.life, slog.LevelWarn, "redispool: what the files hold is not used",
			slog.String("pool", p.poolName()), slog.Any("error", err))
	}
	p.trouble = trouble
}

// renew puts what the files hold in effect, if it is new. It needs the turn to reload.
func (p *Pool) renew(ctx context.Context) error {
	cfg, was := p.config(), p.aim.Load()
	now, err := readFiles(cfg)
	if err != nil || now == was.target.disk {
		return err
	}
	t := was.target
	t.disk = now
	s := staged{cfg: *cfg, aim: t.aim(*cfg, was.given), changes: changesOnDisk(was.target.disk, now), leads: true}
	if err := p.try(ctx, s.aim); err != nil {
		return fmt.Errorf("the server does not accept it, and the old is kept: %w", asFault(err))
	}
	return p.switchTo(ctx, s)
}

// doubt has the files looked at when a failure says that they may have changed.
func (n *node) doubt(err error) {
	if !n.pool.config().hasFiles() {
		return
	}
	switch Classify(err).Kind { //nolint:exhaustive // the two that files can mend
	case health.KindAuthentication, health.KindTLS:
		n.pool.lookSoon()
	}
}

// login asks for user and password. If they have changed by themselves, connections that were opened by the old ones
// are replaced: whoever rotates a password means to withdraw the old one.
func (p *Pool) login(ctx context.Context) (user, password string, err error) {
	a := p.aim.Load()
	user, password, err = a.credentials(ctx)
	if err != nil {
		return "", "", err
	}
	now := [2]string{user, password}
	before := a.login.Swap(&now)
	if before == nil || *before == now || a.mints.Load() || !a.wondering.CompareAndSwap(false, true) {
		return user, password, nil
	}
	if !p.dialing.Enter() {
		return user, password, nil
	}
	old := map[*conn]bool{}
	for _, n := range p.allNodes() {
		for _, c := range n.list() {
			old[c] = c.heard.Load() > 0 // those not heard of yet are just logging in
		}
	}
	// Owner: the pool, which waits for it at Stop as for a dial. It ends by itself, or with the pool's life.
	go func() { //nolint:contextcheck // a login's context ends with it
		defer p.dialing.Leave()
		defer a.wondering.Store(false)
		if p.rotated(a, now) {
			p.recycle(p.life, func(c *conn) bool { return old[c] })
		}
	}()
	return user, password, nil
}

// rotated tells a password that was changed from tokens that are made anew for each who asks (AWS IAM): connections
// stay valid then, and replacing them would make for a new token, and so for ever.
func (p *Pool) rotated(a *aim, now [2]string) bool {
	if !pause(p.life, secondThought) {
		return false
	}
	ctx, cancel := context.WithTimeout(p.life, p.patience())
	defer cancel()
	user, password, err := a.credentials(ctx)
	if err != nil {
		return false
	}
	if now != [2]string{user, password} {
		a.mints.Store(true)
		return false
	}
	return true
}
