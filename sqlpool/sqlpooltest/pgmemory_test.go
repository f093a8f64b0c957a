package sqlpooltest_test

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/sqlpool"
	"github.com/poolkeeper/poolkeeper/sqlpool/sqlpooltest"
)

func TestTimeGoesOnInABubbleWhileAServerInMemoryAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool, srv := sqlpooltest.NewPostgresInMemory(t, func(c *sqlpool.PostgresConfig) {
			c.MinIdle, c.KeepAlive, c.EvictionInterval = 2, 10*time.Minute, 10*time.Minute
			c.MaxLifetime, c.LifetimeJitter = time.Hour, poolkeeper.NoJitter
		})
		srv.Answer("select n", sqlpooltest.Answer{Columns: []string{"n"}, Rows: [][]any{{7}}})
		srv.Slow(time.Hour)
		began, n := time.Now(), 0
		if err := pool.Pool().QueryRow(t.Context(), "select n").Scan(&n); err != nil || n != 7 {
			t.Error(n, err)
		}
		if took := time.Since(began); took < time.Hour || took > time.Hour+time.Second {
			t.Errorf("an answer that takes an hour took %v", took)
		}
		srv.Slow(0)
		testkit.Advance(24*time.Hour + time.Minute) // ends between two sweeps
		if st := pool.Stats(); st.Idle != 2 || st.Evicted["lifetime"] < 40 {
			t.Errorf("after a day %d are idle, and %v were evicted; want 2, of which each lives for an hour", st.Idle, st.Evicted)
		}
	})
}

func TestFaultsInMemoryAreThoseOfASocket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool, srv := sqlpooltest.NewPostgresInMemory(t)
		srv.Answer("select n", sqlpooltest.Answer{Columns: []string{"n"}, Rows: [][]any{{7}}})
		srv.Terminate() // of the idle check's connection: its last message waits to be read
		if err := pool.Check(t.Context()); err != nil {
			t.Errorf("check after a restart: %v", err)
		}
		if err := exec(t, pool, "select n"); err != nil {
			t.Error(err)
		}
		srv.Terminate()
		if err := exec(t, pool, "select n"); sqlState(err) != "57P01" {
			t.Errorf("a session that was ended says %v, want 57P01", err)
		}
		srv.Refuse()
		if err := exec(t, pool, "select n"); !errors.Is(err, syscall.ECONNREFUSED) || health.Classify(err).Kind != health.KindRefused {
			t.Errorf("%v, want connection refused", err)
		}
		srv.Heal()
		if err := exec(t, pool, "select n"); err != nil {
			t.Error(err)
		}
		srv.Hang()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		if _, err := pool.Pool().Exec(ctx, "select n"); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Minute {
			t.Errorf("%v after %v, want the caller's deadline", err, time.Since(began))
		}
	})
}

// Dial reaches the server, in memory or on its port, under any name.
func TestDialReachesTheServerUnderAnyName(t *testing.T) {
	for _, srv := range []*sqlpooltest.PostgresServer{sqlpooltest.ServePostgres(t), sqlpooltest.ServePostgresInMemory(t)} {
		c, err := srv.Dial(t.Context(), "tcp", "db.example:5432")
		if err != nil {
			t.Fatal(err)
		}
		past := time.Now().Add(-time.Second)
		if err := c.SetReadDeadline(past); err != nil {
			t.Error(err)
		}
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, context.DeadlineExceeded) && !isTimeout(err) {
			t.Errorf("a read after its deadline: %v", err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if _, err := c.Write([]byte{0}); err == nil {
			t.Error("a closed connection takes what it is given")
		}
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("a closed connection can be read")
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := srv.Dial(ctx, "tcp", "db.example:5432"); !errors.Is(err, context.Canceled) {
			t.Errorf("a dial for nobody: %v", err)
		}
	}
}

func isTimeout(err error) bool {
	e, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err)
	return ok && e.Timeout()
}
