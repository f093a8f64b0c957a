package sqlpool

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/event"
	"github.com/poolkeeper/poolkeeper/internal/monotime"
	"github.com/poolkeeper/poolkeeper/internal/onfile"
	"github.com/poolkeeper/poolkeeper/internal/retry"
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
func (m *manager) lookAtFiles() {
	m.warnOfExpiries()
	if !m.looking.CompareAndSwap(false, true) {
		return
	}
	// Owner: the pool. It ends with what it dials, or with the pool's life; shut waits for it.
	m.work.Go(func() {
		defer m.looking.Store(false)
		m.looked.Store(int64(monotime.Now()))
		if !m.state.TryBeginChange() {
			return // a Reload reads the files too, and a Pause will be over
		}
		defer m.state.EndChange()
		if m.paused.Load() || m.state.At().Refusal() != nil {
			return
		}
		err := m.events.Guarded("a hook, when files had changed", func() error { return m.renew(m.life) })
		trouble := ""
		if err != nil {
			trouble = err.Error()
		}
		if trouble != "" && trouble != m.renewal && m.life.Err() == nil {
			m.events.Emit(event.OfRenewalRefused(err))
		}
		m.renewal = trouble
	})
}

// renew puts what the files hold in effect, if it is new. The caller has begun a change.
func (m *manager) renew(ctx context.Context) error {
	cfg := m.cfg()
	now := m.asked.readFiles()
	if now.err != nil || now.Contents == *m.inEffect.Load() {
		return now.err
	}
	to, _, err := m.back.resolve(*m.asked, now)
	if err != nil {
		return err
	}
	if err := m.tryTarget(ctx, to, cfg); err != nil {
		return fmt.Errorf("the server does not accept it, and the old is kept: %w", fault.Wrap(err))
	}
	list := onfile.Differ(*m.inEffect.Load(), now.Contents)
	m.inEffect.Store(&now.Contents)
	m.back.use(ctx, to, cfg, true)
	m.resetInTurn()
	m.events.Emit(event.OfRenewal(list))
	m.askAgain(ctx)
	return nil
}

// resetInTurn resets the pool at a random time after its secrets were renewed. All instances of a
// fleet read the secrets within a few seconds, and each replaces all its connections at once. So the
// resets are spread over three times the time in which the fleet may open all its connections. Open
// sessions outlive a change of the password.
func (m *manager) resetInTurn() {
	span := 3 * time.Duration(m.cfg().MaxOpen) * m.pace.Interval()
	if span == 0 {
		m.reset(poolkeeper.EvictedReload)
		return
	}
	// Owner: the pool. It ends with the pool's life; shut waits for it.
	m.work.Go(func() {
		if retry.Sleep(m.life, rand.N(span)) {
			m.reset(poolkeeper.EvictedReload)
		}
	})
}

// askAgain asks the server for what depends on the user: the limits, and until when the password is
// valid.
func (m *manager) askAgain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, m.cfg().DialTimeout)
	defer cancel()
	_, _ = m.limits(ctx) // what is not known is left out
}

// dialFailed has the files looked at when a failed dial says that they may have changed.
func (m *manager) dialFailed(err error) {
	cfg := m.cfg()
	if !cfg.files().Any() || cfg.FileInterval <= 0 || monotime.Since(monotime.Time(m.looked.Load())) < soonestLook {
		return
	}
	switch fault.Classify(err).Kind { //nolint:exhaustive // the two that files can mend
	case health.KindAuthentication, health.KindTLS:
		m.lookAtFiles()
	}
}

// loggedIn takes note of a login that the server has accepted. If Credentials has changed its
// answer for good, connections that were opened by the old one are replaced.
func (m *manager) loggedIn(now rotation.Login) {
	cfg, w := m.cfg(), m.logins.Load()
	if cfg.Credentials == nil || !w.Changed(now) { // nil: a Reload is just doing away with it
		return
	}
	// Owner: the pool. It ends by itself, or with the pool's life; shut waits for it.
	m.work.Go(func() {
		if w.Lasting(m.life, cfg.DialTimeout, now, func(ctx context.Context) (rotation.Login, error) {
			again, err := m.askLogin(ctx, cfg.Credentials)
			again.User = cmp.Or(again.User, now.User) // without one: that of URL
			return again, err
		}) && m.logins.Load() == w {
			m.resetInTurn()
			m.events.Emit(event.OfRenewal([]poolkeeper.Change{{Field: "Credentials", From: "…", To: "…"}}))
			m.askAgain(m.life)
		}
	})
}

// askLogin asks the service for user and password.
func (c *base) askLogin(
	ctx context.Context, f func(context.Context) (user, password string, err error),
) (login rotation.Login, err error) {
	err = c.events.Guarded("Credentials", func() error {
		if login.User, login.Password, err = f(ctx); err != nil {
			return fmt.Errorf("sqlpool: Credentials: %w", err)
		}
		return nil
	})
	return login, err
}

// logIn asks Credentials.
func (c *base) logIn(ctx context.Context, conn *pgx.ConnConfig, cfg *config) error {
	if cfg.Credentials == nil {
		return nil
	}
	ask, cancel := context.WithTimeout(ctx, cfg.DialTimeout)
	defer cancel()
	login, err := c.askLogin(ask, cfg.Credentials)
	if err != nil {
		return err
	}
	if login.User != "" {
		conn.User = login.User
	}
	conn.Password = login.Password
	return nil
}

// tryTarget opens a connection and closes it. It ends with the pool's life; shut waits for it.
func (m *manager) tryTarget(ctx context.Context, to target, cfg *config) error {
	m.work.Begin()
	defer m.work.End()
	ctx, cancel := context.WithTimeout(ctx, cfg.DialTimeout)
	defer cancel()
	defer context.AfterFunc(m.life, cancel)() //nolint:contextcheck // two lives bound it
	return m.back.try(ctx, to, cfg)
}
