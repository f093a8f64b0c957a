// Command reload changes the sizes of a service's pools while it is under load, in the file that
// declares them, as Kubernetes changes a mounted ConfigMap: it swaps a symbolic link.
//
//	first    both pools get larger; the change is watched for a while, and kept
//	second   the file has a fault; the old sizes stay
//	third    one pool gets a size at which its callers queue; every pool gets its old size back
//	fourth   sizes that are right; they are kept
//
// No request fails. It needs a Redis and a PostgreSQL:
//
//	REDIS_URL=redis://localhost DATABASE_URL=postgres://localhost/postgres go run ./examples/reload
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper/config"
	"github.com/poolkeeper/poolkeeper/lifecycle"
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil { //nolint:forbidigo // main has no caller
		fmt.Fprintln(os.Stderr, "reload:", err)
		os.Exit(1)
	}
}

// The times are those of a demonstration: a service has seconds, and half a minute.
const (
	every   = 50 * time.Millisecond
	soak    = time.Second
	callers = 32 // at once
	holding = 10 * time.Millisecond
)

// text is the file. URLs come from the environment, because they may have passwords.
func text(cache, orders string) string {
	return fmt.Sprintf(`redis:
  cache: {url: {env: REDIS_URL}, max_open: %s, max_open_ceiling: 64}
postgres:
  orders: {url: {env: DATABASE_URL}, max_open: %s, max_open_ceiling: 64, acquire_timeout: 20s}
lifecycle: {shutdown_timeout: 10s}
`, cache, orders)
}

// mount is a directory as Kubernetes mounts a ConfigMap:
//
//	service.yaml → ..data/service.yaml, ..data → ..1, and ..1/service.yaml
type mount struct {
	dir     string
	version int
}

// swap puts a new version of the file in place with one rename.
func (m *mount) swap(text string) error {
	m.version++
	own := fmt.Sprintf("..%d", m.version)
	next := filepath.Join(m.dir, "..data_tmp")
	return errors.Join(
		os.Mkdir(filepath.Join(m.dir, own), 0o700),
		os.WriteFile(filepath.Join(m.dir, own, "service.yaml"), []byte(text), 0o600),
		os.Symlink(own, next),
		os.Rename(next, filepath.Join(m.dir, "..data")),
	)
}

func newMount(text string) (*mount, error) {
	dir, err := os.MkdirTemp("", "reload")
	if err != nil {
		return nil, err
	}
	m := &mount{dir: dir}
	return m, errors.Join(m.swap(text), os.Symlink(filepath.Join("..data", "service.yaml"), filepath.Join(dir, "service.yaml")))
}

func run(ctx context.Context, out io.Writer) error {
	m, err := newMount(text("20", "20"))
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(m.dir) }()
	log := slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelWarn}))
	f, err := config.Load(filepath.Join(m.dir, "service.yaml"), config.Logger(log))
	if err != nil {
		return err
	}
	cfg := f.Lifecycle()
	cfg.Logger = log
	reg := lifecycle.New(cfg)
	if err := f.AddTo(reg); err != nil {
		return err
	}
	watcher := config.Watch(f, config.Every(every), config.Soak(soak))
	reg.Add("config", watcher)
	if err := reg.Start(ctx); err != nil {
		return err
	}
	return errors.Join(changes(ctx, f, watcher, m, out), reg.Shutdown(ctx))
}

// changes makes the changes, one after the other, under load.
func changes(ctx context.Context, f *config.File, w *config.Watcher, m *mount, out io.Writer) error {
	cache, err1 := f.Redis("cache")
	orders, err2 := f.Postgres("orders")
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	l := &load{redis: cache.Client(), postgres: orders.Pool()}
	l.start(ctx)
	defer l.stop()
	if err := wait(ctx, 2*soak); err != nil { // what is usual has to be seen before it can get worse
		return err
	}
	for _, c := range []struct {
		what, cache, orders string
		over                func(config.State) bool
	}{
		{"both pools get larger", "40", "40", func(s config.State) bool { return s.Applied == 1 }},
		{"the file has a fault", "many", "40", func(s config.State) bool { return s.Refused == 1 }},
		{"one pool gets too small", "50", "1", func(s config.State) bool { return s.RolledBack == 1 }},
		{"sizes that are right", "50", "30", func(s config.State) bool { return s.Applied == 2 }},
	} {
		if err := m.swap(text(c.cache, c.orders)); err != nil {
			return err
		}
		for !c.over(w.State()) {
			if err := wait(ctx, every); err != nil {
				return err
			}
		}
		s := w.State()
		_, _ = fmt.Fprintf(out, "%s: cache %d, orders %d; %s", c.what, cache.Stats().Max, orders.Stats().Max, s.Phase)
		if s.Err != nil {
			said, _, _ := strings.Cut(s.Err.Error(), "\n")
			_, _ = fmt.Fprintf(out, ": %s", strings.ReplaceAll(said, m.dir, "…"))
		}
		_, _ = fmt.Fprintln(out)
	}
	l.stop()
	_, _ = fmt.Fprintf(out, "requests: %d, failed: %d\n", l.done.Load(), l.failed.Load())
	return nil
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// load is callers that never stop asking.
type load struct {
	redis    redis.UniversalClient
	postgres *pgxpool.Pool

	done, failed atomic.Int64
	cancel       context.CancelFunc
	callers      sync.WaitGroup
}

func (l *load) start(ctx context.Context) {
	until, cancel := context.WithCancel(ctx)
	l.cancel = cancel
	for range callers {
		l.callers.Go(func() {
			for until.Err() == nil {
				l.request(ctx)
			}
		})
	}
}

// stop ends the load, and waits for the requests that are under way.
func (l *load) stop() {
	l.cancel()
	l.callers.Wait()
}

// request is one request of a service: a counter in Redis, a statement in PostgreSQL.
func (l *load) request(ctx context.Context) {
	err := l.redis.Incr(ctx, "reload:requests").Err()
	if err == nil {
		_, err = l.postgres.Exec(ctx, "select pg_sleep($1)", holding.Seconds())
	}
	l.done.Add(1)
	if err != nil {
		l.failed.Add(1)
	}
}
