package health_test

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
)

// ownConn is a probe on a connection of its own, outside the pool that traffic uses.
type ownConn struct {
	url string

	mu   sync.Mutex // guards conn; one probe at a time anyway
	conn *pgx.Conn
}

func (o *ownConn) probe(ctx context.Context) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.conn == nil || o.conn.IsClosed() {
		conn, err := pgx.Connect(ctx, o.url)
		if err != nil {
			return err
		}
		o.conn = conn
	}
	return o.conn.Ping(ctx)
}

func (o *ownConn) close(ctx context.Context) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.conn != nil {
		_ = o.conn.Close(ctx)
	}
}

// traffic runs a query every few milliseconds until ctx ends, and tells seen what came of it.
func traffic(ctx context.Context, url string, seen poolkeeper.Observer) (wait func(), err error) {
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		return nil, err
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				query, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
				_, err := pool.Exec(query, "SELECT 1")
				cancel()
				if ctx.Err() == nil {
					seen.Observe(err)
				}
				select {
				case <-ctx.Done():
				case <-time.After(5 * time.Millisecond):
				}
			}
		})
	}
	return func() {
		wg.Wait()
		pool.Close()
	}, nil
}

// deaf is an observer that ignores what it is told.
type deaf struct{}

func (deaf) Observe(error) {}

// trouble starts a server, traffic and a monitor, has harm done to the server, and waits until
// readiness has ended and, once the server is mended, is back. The probe must answer all the while.
// With passive signals the next run that the interval brings is hours away: only they can have
// readiness end.
func trouble(t *testing.T, passive bool, harm, mend func(*testserver.Server, testing.TB)) {
	t.Helper()
	testkit.Slow(t)
	server := testserver.Postgres(t)
	var cfg health.Config
	if passive {
		cfg.Interval = rarely
	}
	m := health.New(cfg)
	own := &ownConn{url: server.URL()}
	r := register(t, m, health.Check{Name: "postgres", Probe: own.probe})
	start(t, m)
	h := health.Handler(m)
	ctx, cancel := context.WithCancel(t.Context())
	var seen poolkeeper.Observer = deaf{}
	if passive {
		seen = r
	}
	wait, err := traffic(ctx, server.URL(), seen)
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	ready := func() bool {
		asked++
		return get(h, "/readyz").Code == http.StatusOK
	}
	eventually(t, "ready", ready)
	begin, before := time.Now(), asked
	harm(server, t)
	eventually(t, "not ready", func() bool { return !ready() })
	down := time.Since(begin)
	if n := asked - before; n < 20 { // one that waits for a run is asked three or four times
		t.Errorf("the probe answered %d times in %v", n, down)
	}
	c, _ := m.Report().Check("postgres")
	t.Logf("not ready after %v: %v (%s)", down.Round(time.Millisecond), c.Err, c.Fault.Kind)
	begin = time.Now()
	mend(server, t)
	eventually(t, "ready again", ready)
	t.Logf("ready %v after the server was mended", time.Since(begin).Round(time.Millisecond))
	cancel()
	wait()
	own.close(context.WithoutCancel(ctx))
}

// PostgreSQL dies under traffic (kill -9). What traffic sees brings the check forward, so that
// readiness ends after two retries and not after an interval, and comes back with the first success
// of traffic.
func TestKilledServerIsNotReady(t *testing.T) {
	t.Parallel()
	kill, restart := (*testserver.Server).Kill, (*testserver.Server).Restart
	t.Run("with passive signals", func(t *testing.T) {
		t.Parallel()
		trouble(t, true, kill, restart)
	})
	t.Run("without", func(t *testing.T) {
		t.Parallel()
		trouble(t, false, kill, restart)
	})
}

// A frozen PostgreSQL (SIGSTOP) answers nothing. How long that takes is shown in a bubble, by
// TestFrozenDependencyIsNotReadyWithinTimeoutTimesThreshold.
func TestFrozenServerIsNotReady(t *testing.T) {
	testkit.Slow(t)
	t.Parallel()
	freeze, thaw := (*testserver.Server).Freeze, (*testserver.Server).Thaw
	trouble(t, true, freeze, thaw)
}
