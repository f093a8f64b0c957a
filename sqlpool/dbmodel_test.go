package sqlpool_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/poolkeeper/poolkeeper/internal/test/fuzzing"
	"github.com/poolkeeper/poolkeeper/sqlpool"
)

// Whatever callers and a slow driver do, the server sees no more than MaxOpen connections, no place
// is lost, and Stop ends.
func TestModelOfPlacesInDatabaseSQL(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) { modelOfPlacesInDatabaseSQL(t, rt) })
}

func FuzzModelOfPlacesInDatabaseSQL(f *testing.F) { fuzzing.Bubble(f, modelOfPlacesInDatabaseSQL) }

func modelOfPlacesInDatabaseSQL(t *testing.T, rt *rapid.T) {
	t.Helper()
	steps := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) step {
		return step{
			Do:   rapid.SampledFrom([]string{"acquire", "acquire", "acquire", "release", "release", "break", "reset", "sleep"}).Draw(rt, "do"),
			Pick: rapid.IntRange(0, 10).Draw(rt, "pick"),
			For:  time.Duration(rapid.IntRange(1, 300).Draw(rt, "ms")) * time.Millisecond,
		}
	}), 1, 40).Draw(rt, "steps")
	slow := rapid.SampledFrom([]string{"", "dial", "close"}).Draw(rt, "slow")
	var fault error
	synctest.Test(t, func(t *testing.T) { fault = playDBModel(t, steps, slow) })
	if fault != nil {
		rt.Fatal(fault)
	}
}

func playDBModel(t *testing.T, steps []step, slow string) error {
	t.Helper()
	const takes = 70 * time.Millisecond
	srv := newFakeServer()
	switch slow {
	case "dial":
		srv.dial.set(func(context.Context) error { time.Sleep(takes); return nil })
	case "close":
		srv.closing.set(func() { time.Sleep(takes) })
	}
	p, err := sqlpool.NewDB(srv, sqlpool.DBConfig{MaxOpen: modelMaxOpen, AcquireTimeout: 250 * time.Millisecond, Logger: quiet()})
	if err == nil {
		err = p.Start(t.Context())
	}
	if err != nil {
		return err
	}
	m := &dbModel{pool: p, srv: srv}
	for i, s := range steps {
		m.do(t, s)
		synctest.Wait()
		if open := srv.Open(); open > modelMaxOpen+1 { // and one for checks
			return fmt.Errorf("step %d, %+v: %d connections are open", i, s, open)
		}
		if st := p.Stats(); st.InUse != len(m.held) {
			return fmt.Errorf("step %d, %+v: the pool says that %d are in use, callers have %d", i, s, st.InUse, len(m.held))
		}
	}
	return errors.Join(m.end(t), p.Stop(t.Context()))
}

type dbModel struct {
	pool *sqlpool.DB
	srv  *fakeServer
	held []*sql.Conn
}

func (m *dbModel) do(t *testing.T, s step) {
	t.Helper()
	switch {
	case s.Do == "sleep":
		time.Sleep(s.For)
	case s.Do == "reset":
		m.pool.Reset()
	case s.Do == "acquire":
		ctx, cancel := context.WithTimeout(t.Context(), s.For)
		defer cancel()
		if c, err := m.pool.DB().Conn(ctx); err == nil {
			m.held = append(m.held, c)
		}
	case len(m.held) > 0:
		i := s.Pick % len(m.held)
		c := m.held[i]
		m.held = append(m.held[:i:i], m.held[i+1:]...)
		if s.Do == "break" {
			_ = c.Raw(func(any) error { return driver.ErrBadConn })
		}
		_ = c.Close()
	}
}

// end gives everything back, and looks for lost places.
func (m *dbModel) end(t *testing.T) error {
	t.Helper()
	for _, c := range m.held {
		_ = c.Close()
	}
	time.Sleep(time.Second)
	if s := m.pool.Stats(); s.InUse != 0 || len(m.pool.Holders()) != 0 {
		return fmt.Errorf("at rest %d are in use, by %d holders", s.InUse, len(m.pool.Holders()))
	}
	for range modelMaxOpen {
		c, err := m.pool.DB().Conn(t.Context())
		if err != nil {
			return fmt.Errorf("a place is lost: %w", err)
		}
		defer func() { _ = c.Close() }()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if c, err := m.pool.DB().Conn(ctx); err == nil {
		_ = c.Close()
		return errors.New("one connection more than MaxOpen")
	}
	return nil
}
