package sqlpool_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"pgregory.net/rapid"

	"github.com/poolkeeper/poolkeeper/internal/test/fuzzing"
	"github.com/poolkeeper/poolkeeper/sqlpool"
	"github.com/poolkeeper/poolkeeper/sqlpool/sqlpooltest"
)

// A step of the model test: what callers of a pool do, one after the other.
type step struct {
	Do   string        // acquire, release, hijack, hijack exactly, sleep
	Pick int           // which of the connections that are held
	For  time.Duration // the patience of an acquisition, or the length of a sleep
}

// model is a pool as its callers see it.
type model struct {
	pool    *sqlpool.Postgres
	reclaim time.Duration
	held    []modelHold
	own     []*pgx.Conn // hijacked
}

type modelHold struct {
	conn  *pgxpool.Conn
	since time.Time
}

const modelMaxOpen = 3

// Whatever callers and hooks do, no more than MaxOpen connections are in use, no place is lost, and
// Stop ends.
func TestModelOfPlacesInPgxpool(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) { modelOfPlacesInPgxpool(t, rt) })
}

func FuzzModelOfPlacesInPgxpool(f *testing.F) { fuzzing.Bubble(f, modelOfPlacesInPgxpool) }

func modelOfPlacesInPgxpool(t *testing.T, rt *rapid.T) {
	t.Helper()
	steps := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) step {
		return step{
			Do:   rapid.SampledFrom([]string{"acquire", "acquire", "acquire", "release", "release", "hijack", "hijack exactly", "sleep"}).Draw(rt, "do"),
			Pick: rapid.IntRange(0, 10).Draw(rt, "pick"),
			For:  time.Duration(rapid.IntRange(1, 300).Draw(rt, "ms")) * time.Millisecond,
		}
	}), 1, 40).Draw(rt, "steps")
	hooks := rapid.SampledFrom([]string{"", "AfterRelease", "dial", "AfterConnect"}).Draw(rt, "slow")
	reclaims := rapid.Bool().Draw(rt, "reclaims")
	var fault error
	synctest.Test(t, func(t *testing.T) { fault = playModel(t, steps, hooks, reclaims) })
	if fault != nil {
		rt.Fatal(fault)
	}
}

func playModel(t *testing.T, steps []step, slow string, reclaims bool) error {
	t.Helper()
	srv := sqlpooltest.ServePostgresInMemory(t)
	cfg := sqlpool.PostgresConfig{
		URL: srv.URL(), MaxOpen: modelMaxOpen, MaxOpenCeiling: modelMaxOpen + 50, AcquireTimeout: 250 * time.Millisecond, Logger: quiet(),
		Configure: func(c *pgxpool.Config) error { slowHooks(c, srv, slow); return nil },
	}
	m := &model{}
	if reclaims {
		m.reclaim = 200 * time.Millisecond
		cfg.ReclaimAfter = m.reclaim
	}
	p, err := sqlpool.NewPostgres(cfg)
	if err != nil {
		return err
	}
	if err := p.Start(t.Context()); err != nil {
		return err
	}
	m.pool = p
	for i, s := range steps {
		if err := m.do(t, s); err != nil {
			return fmt.Errorf("step %d, %+v: %w", i, s, err)
		}
	}
	return errors.Join(m.end(t), p.Stop(t.Context()))
}

func slowHooks(c *pgxpool.Config, srv *sqlpooltest.PostgresServer, slow string) {
	const takes = 70 * time.Millisecond
	c.ConnConfig.DialFunc = srv.Dial
	switch slow {
	case "AfterRelease":
		c.AfterRelease = func(*pgx.Conn) bool { time.Sleep(takes); return true }
	case "AfterConnect":
		c.AfterConnect = func(context.Context, *pgx.Conn) error { time.Sleep(takes); return nil }
	case "dial":
		c.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
			time.Sleep(takes)
			return srv.Dial(ctx, network, addr)
		}
	}
}

func (m *model) do(t *testing.T, s step) error {
	t.Helper()
	switch {
	case s.Do == "sleep":
		time.Sleep(s.For)
	case s.Do == "acquire":
		ctx, cancel := context.WithTimeout(t.Context(), s.For)
		defer cancel()
		if c, err := m.pool.Pool().Acquire(ctx); err == nil {
			m.held = append(m.held, modelHold{c, time.Now()})
		}
	case len(m.held) == 0:
	default:
		i := s.Pick % len(m.held)
		c := m.held[i].conn
		m.held = append(m.held[:i:i], m.held[i+1:]...)
		switch s.Do {
		case "release":
			c.Release()
		case "hijack":
			m.own = append(m.own, c.Hijack())
		case "hijack exactly":
			m.own = append(m.own, m.pool.Hijack(c))
		}
	}
	synctest.Wait()
	st := m.pool.Stats()
	inUse := 0
	for _, h := range m.held {
		if m.reclaim == 0 || time.Since(h.since) <= m.reclaim {
			inUse++
		}
	}
	if inUse > modelMaxOpen {
		return fmt.Errorf("%d connections are in use", inUse)
	}
	if st.InUse < 0 || st.InUse > modelMaxOpen {
		return fmt.Errorf("the pool says that %d are in use", st.InUse)
	}
	return nil
}

// end gives everything back, and looks for lost places.
func (m *model) end(t *testing.T) error {
	t.Helper()
	for _, h := range m.held {
		h.conn.Release()
	}
	for _, c := range m.own {
		_ = c.Close(t.Context())
	}
	time.Sleep(time.Second)
	if s := m.pool.Stats(); s.InUse != 0 || len(m.pool.Holders()) != 0 {
		return fmt.Errorf("at rest %d are in use, by %d holders", s.InUse, len(m.pool.Holders()))
	}
	var got []*pgxpool.Conn
	defer func() {
		for _, c := range got {
			c.Release()
		}
		time.Sleep(time.Second)
	}()
	for range modelMaxOpen {
		c, err := m.pool.Pool().Acquire(t.Context())
		if err != nil {
			return fmt.Errorf("a place is lost: %w", err)
		}
		got = append(got, c)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if c, err := m.pool.Pool().Acquire(ctx); err == nil {
		got = append(got, c)
		return errors.New("one connection more than MaxOpen")
	}
	return nil
}
