package integration_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/redispool"
)

const (
	kind = "load"
	// stubborn jobs do not end while the first service runs: one in stubbornEvery, at most
	// stubbornMost, which leaves workers for the others.
	stubbornEvery, stubbornMost = 20, 3
	workers                     = 8
)

// ledger knows which jobs the queue has accepted and which were done.
type ledger struct {
	mu       sync.Mutex // guards the following
	accepted map[string]bool
	done     map[string]int
	begun    map[string]int // stubborn ones
}

func newLedger() *ledger {
	return &ledger{accepted: map[string]bool{}, done: map[string]int{}, begun: map[string]int{}}
}

func (l *ledger) count(in func(*ledger)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	in(l)
}

// read calls f, which returns a number, under the lock.
func (l *ledger) read(f func(*ledger) int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return f(l)
}

// missing are the accepted jobs that were not done and are not in queued.
func (l *ledger) missing(queued map[string]bool) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for id := range l.accepted {
		if l.done[id] == 0 && !queued[id] {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}

func stubborn(id string) bool {
	n, err := strconv.Atoi(id)
	return err == nil && n%stubbornEvery == 0 && n/stubbornEvery < stubbornMost
}

// handler does jobs. While holding, the stubborn ones last until they are given up.
func (l *ledger) handler(holding bool) asynq.HandlerFunc {
	return func(ctx context.Context, job *asynq.Task) error {
		id := string(job.Payload())
		if holding && stubborn(id) {
			l.count(func(l *ledger) { l.begun[id]++ })
			<-ctx.Done()
			return ctx.Err()
		}
		l.count(func(l *ledger) { l.done[id]++ })
		return nil
	}
}

// produce puts jobs into the queue until it is stopped. What the queue did not confirm is tried
// again under the same id; a conflict means that it was accepted before.
func (l *ledger) produce(queue *asynq.Client) func(context.Context) error {
	return func(ctx context.Context) error {
		for n := 0; ctx.Err() == nil; n++ {
			id := strconv.Itoa(n)
			for {
				_, err := queue.EnqueueContext(ctx, asynq.NewTask(kind, []byte(id)), asynq.TaskID(id), asynq.MaxRetry(1000))
				if err == nil || errors.Is(err, asynq.ErrTaskIDConflict) {
					l.count(func(l *ledger) { l.accepted[id] = true })
					break
				}
				if !pause(ctx, 10*time.Millisecond) {
					return nil
				}
			}
			pause(ctx, time.Millisecond)
		}
		return nil
	}
}

// pause waits for d and reports whether ctx still goes on.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// service is a registry with a pool and a worker on it.
func service(tb testing.TB, url string, handler asynq.Handler) (*lifecycle.Registry, *redispool.Pool) {
	tb.Helper()
	pool, err := redispool.New(redispool.Config{URL: url, MaxOpen: 2 * workers, MinIdle: 2, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		tb.Fatal(err)
	}
	server := asynq.NewServerFromRedisClient(pool.Client(), asynq.Config{
		Concurrency:              workers,
		TaskCheckInterval:        10 * time.Millisecond,
		DelayedTaskCheckInterval: 50 * time.Millisecond,
		ShutdownTimeout:          200 * time.Millisecond,
		RetryDelayFunc:           func(int, error, *asynq.Task) time.Duration { return 0 },
		LogLevel:                 asynq.FatalLevel,
	})
	reg := lifecycle.New(lifecycle.Config{ShutdownTimeout: patience, Logger: slog.New(slog.DiscardHandler)})
	reg.Add("redis", pool)
	reg.Add("worker", worker{server, handler}, lifecycle.WithDependencies("redis"))
	tb.Cleanup(func() { _ = reg.Shutdown(within(tb, patience)) }) // done already, unless the test failed
	return reg, pool
}

// The server is killed under load and comes back with its append-only file, the service is shut
// down under load, and a second one takes over: every job that the queue has accepted is done, and
// after each shutdown nothing is left on the server.
func TestNoJobIsLostThroughServerRestartAndShutdown(t *testing.T) { // INV-1, INV-9
	t.Run("killed", func(t *testing.T) { noJobIsLost(t, (*testserver.Server).Kill) })
	t.Run("stopped", func(t *testing.T) { noJobIsLost(t, (*testserver.Server).Stop) })
}

func noJobIsLost(t *testing.T, end func(*testserver.Server, testing.TB)) {
	t.Helper()
	srv := testserver.Redis(t, "--appendonly", "yes", "--appendfsync", "always")
	look := admin(t, srv.Addr())
	l := newLedger()

	reg, pool := service(t, srv.URL(), l.handler(true))
	reg.Go("producer", l.produce(asynq.NewClientFromRedisClient(pool.Client())), lifecycle.WithDependencies("redis"))
	if err := reg.Start(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	doneJobs := func(l *ledger) int { return len(l.done) }
	eventually(t, "100 jobs are done", func() bool { return l.read(doneJobs) >= 100 })
	end(srv, t)
	srv.Restart(t)
	before := l.read(doneJobs)
	eventually(t, "100 more after the restart", func() bool { return l.read(doneJobs) >= before+100 })
	eventually(t, "the stubborn jobs have begun", func() bool {
		return l.read(func(l *ledger) int { return len(l.begun) }) == stubbornMost
	})
	eventually(t, "the worker's subscription is listed as a holder", func() bool {
		return slices.ContainsFunc(pool.Holders(), func(h poolkeeper.Holder) bool { return h.Kind == "pubsub" })
	})
	if err := reg.Shutdown(within(t, patience)); err != nil {
		t.Fatalf("shutdown under load: %v", err)
	}
	nothingLeft(t, look)

	states := queued(t, look)
	inQueue := map[string]bool{}
	for state, ids := range states {
		for _, id := range ids {
			if state != "archived" { // asynq would never do it
				inQueue[id] = true
			}
		}
	}
	if lost := l.missing(inQueue); len(lost) > 0 {
		t.Fatalf("%d accepted jobs neither done nor in the queue: %v", len(lost), lost)
	}
	for id := range l.begun {
		if l.done[id] != 0 || !inQueue[id] {
			t.Errorf("stubborn job %s: done %d times, in the queue: %v; want 0 and true", id, l.done[id], inQueue[id])
		}
	}
	orphans := expire(t, look, states["active"])
	t.Logf("accepted %d, done %d; pending %d, active %d (%d leases set back), retry %d", len(l.accepted), len(l.done),
		len(states["pending"]), len(states["active"]), orphans, len(states["retry"]))

	second, _ := service(t, srv.URL(), l.handler(false))
	if err := second.Start(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all accepted jobs are done", func() bool { return len(l.missing(nil)) == 0 })
	eventually(t, "the queue is empty", func() bool { return len(queued(t, look)) == 0 })
	if err := second.Shutdown(within(t, patience)); err != nil {
		t.Fatalf("second shutdown: %v", err)
	}
	nothingLeft(t, look)
}

// A service whose start fails leaves a server and a client of asynq that were never started; the
// shutdown says nothing about them, and leaves nothing behind (goleak).
func TestWorkerThatWasNeverStartedStopsCleanly(t *testing.T) { // INV-13
	srv := testserver.SharedRedis(t)
	reg, _ := service(t, srv.URL(), newLedger().handler(false))
	failure := errors.New("no")
	reg.Add("bad", lifecycle.Hooks{OnStart: func(context.Context) error { return failure }}, lifecycle.WithDependencies("redis"))
	reg.Add("after", lifecycle.Hooks{}, lifecycle.WithDependencies("worker", "bad"))
	if err := reg.Start(within(t, patience)); !errors.Is(err, failure) {
		t.Fatalf("Start: %v, want %v", err, failure)
	}
	nothingLeft(t, admin(t, srv.Addr()))
}

// admin is a raw client for looking at the server.
func admin(tb testing.TB, addr string) *redis.Client {
	tb.Helper()
	c := redis.NewClient(&redis.Options{Addr: addr, PoolSize: 1, ClientName: "admin"})
	tb.Cleanup(func() {
		if err := c.Close(); err != nil {
			tb.Error(err)
		}
	})
	return c
}

// nothingLeft demands that the server has no connection but the admin's.
func nothingLeft(tb testing.TB, look *redis.Client) {
	tb.Helper()
	var list string
	eventually(tb, "no connection is left on the server", func() bool {
		var err error
		if list, err = look.ClientList(within(tb, patience)).Result(); err != nil {
			tb.Fatal(err)
		}
		return strings.Count(list, "\n") == strings.Count(list, " name=admin ")
	})
}

// queued are the ids of the jobs that the server has, by state; states without any are left out. It
// reads what asynq documents as its layout, with a client of its own, so that nothing of what is
// tested takes part.
func queued(tb testing.TB, look *redis.Client) map[string][]string {
	tb.Helper()
	ctx := within(tb, patience)
	out := map[string][]string{}
	for _, state := range []string{"pending", "active"} {
		ids, err := look.LRange(ctx, key(state), 0, -1).Result()
		if err != nil {
			tb.Fatal(err)
		}
		if len(ids) > 0 {
			out[state] = ids
		}
	}
	for _, state := range []string{"scheduled", "retry", "archived", "completed"} {
		ids, err := look.ZRange(ctx, key(state), 0, -1).Result()
		if err != nil {
			tb.Fatal(err)
		}
		if len(ids) > 0 {
			out[state] = ids
		}
	}
	return out
}

// expire sets back the leases of jobs that no worker works on any more. It returns their number.
// Either the server took a job out and was gone before it could say so, or a job was done and the
// server was gone. Asynq takes such a job up again a minute later; a test need not wait for that.
func expire(tb testing.TB, look *redis.Client, ids []string) int {
	tb.Helper()
	for _, id := range ids {
		if err := look.ZAdd(within(tb, patience), key("lease"), redis.Z{Score: 1, Member: id}).Err(); err != nil {
			tb.Fatal(err)
		}
	}
	return len(ids)
}

func key(part string) string { return fmt.Sprintf("asynq:{default}:%s", part) }
