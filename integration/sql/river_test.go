package integration_test

import (
	"context"
	"database/sql"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/riverqueue/river/rivertype"

	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/sqlpool"
)

const (
	// stubborn jobs do not end while the first service runs: one in stubbornEvery, at most
	// stubbornMost, which leaves workers for the others.
	stubbornEvery, stubbornMost = 20, 3
	workers                     = 8
)

// loadArgs is a job.
type loadArgs struct {
	Number int `json:"number"`
}

// Kind is River's name for it.
func (loadArgs) Kind() string { return "load" }

func (a loadArgs) stubborn() bool {
	return a.Number%stubbornEvery == 0 && a.Number/stubbornEvery < stubbornMost
}

// ledger knows which jobs the queue has accepted and which were done.
type ledger struct {
	mu       sync.Mutex // guards the following
	accepted map[int]bool
	done     map[int]int
	begun    map[int]bool // stubborn ones
}

func newLedger() *ledger {
	return &ledger{accepted: map[int]bool{}, done: map[int]int{}, begun: map[int]bool{}}
}

func (l *ledger) write(f func(*ledger)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f(l)
}

func (l *ledger) read(f func(*ledger) int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return f(l)
}

// missing are the accepted jobs that were not done and are not in queued.
func (l *ledger) missing(queued map[int]bool) []int {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []int
	for n := range l.accepted {
		if l.done[n] == 0 && !queued[n] {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out
}

// loadWorker does jobs. While holding, the stubborn ones last until they are given up.
type loadWorker struct {
	river.WorkerDefaults[loadArgs]

	l       *ledger
	holding bool
}

// Work does one job.
func (w *loadWorker) Work(ctx context.Context, job *river.Job[loadArgs]) error {
	if w.holding && job.Args.stubborn() {
		w.l.write(func(l *ledger) { l.begun[job.Args.Number] = true })
		<-ctx.Done()
		return ctx.Err()
	}
	w.l.write(func(l *ledger) { l.done[job.Args.Number]++ })
	return nil
}

// atOnce retries at once.
type atOnce struct{}

// NextRetry is now.
func (atOnce) NextRetry(*rivertype.JobRow) time.Time { return time.Now() }

// produce inserts jobs until it is stopped. What the server did not confirm is inserted again, so
// that some jobs may be in the queue twice.
func (l *ledger) produce(client *river.Client[pgx.Tx]) func(context.Context) error {
	return func(ctx context.Context) error {
		for n := 0; ctx.Err() == nil; n++ {
			for {
				if _, err := client.Insert(ctx, loadArgs{n}, nil); err == nil {
					l.write(func(l *ledger) { l.accepted[n] = true })
					break
				}
				if !pause(ctx, 5*time.Millisecond) {
					return nil
				}
			}
			pause(ctx, 2*time.Millisecond)
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

// riverService is a registry with a pool, River's tables and River on it.
func riverService(tb testing.TB, url string, l *ledger, holding bool) (*lifecycle.Registry, *river.Client[pgx.Tx]) {
	tb.Helper()
	pool, err := sqlpool.NewPostgres(sqlpool.PostgresConfig{URL: url, MaxOpen: workers, MinIdle: 2, Logger: silent()})
	if err != nil {
		tb.Fatal(err)
	}
	driver := riverpgxv5.New(pool.Pool())
	jobs := river.NewWorkers()
	river.AddWorker(jobs, &loadWorker{l: l, holding: holding})
	client, err := river.NewClient(driver, &river.Config{
		Workers:           jobs,
		Queues:            map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: workers}},
		FetchCooldown:     5 * time.Millisecond,
		FetchPollInterval: 50 * time.Millisecond,
		RetryPolicy:       atOnce{},
		MaxAttempts:       1000,
		SoftStopTimeout:   200 * time.Millisecond,
		Logger:            silent(),
	})
	if err != nil {
		tb.Fatal(err)
	}
	migrate := func(ctx context.Context) error {
		migrator, err := rivermigrate.New(driver, &rivermigrate.Config{Logger: silent()})
		if err != nil {
			return err
		}
		_, err = migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
		return err
	}
	reg := lifecycle.New(lifecycle.Config{ShutdownTimeout: patience, Logger: silent()})
	reg.Add("db", pool)
	reg.Add("schema", lifecycle.Hooks{OnStart: migrate}, lifecycle.WithDependencies("db"))
	reg.Add("river", riverWorker{client}, lifecycle.WithDependencies("schema"))
	tb.Cleanup(func() { _ = reg.Shutdown(within(tb, patience)) }) // done already, unless the test failed
	return reg, client
}

// The server ends every connection several times under load, River's listener among them, the
// service is shut down under load, and a second one takes over: every job that the queue has
// accepted is done, and after each shutdown nothing is left on the server.
func TestRiverLosesNoJobThroughTerminatedConnectionsAndShutdown(t *testing.T) { // INV-1, INV-9
	srv := testserver.Postgres(t)
	look := adminPostgres(t, srv)
	l := newLedger()
	reg, client := riverService(t, srv.URL(), l, true)
	reg.Go("producer", l.produce(client), lifecycle.WithDependencies("schema"))
	if err := reg.Start(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	doneJobs := func(l *ledger) int { return len(l.done) }
	for range 3 {
		before := l.read(doneJobs)
		eventually(t, "50 more jobs are done", func() bool { return l.read(doneJobs) >= before+50 })
		var ended int
		const all = "select count(pg_terminate_backend(pid)) from pg_stat_activity where pid <> pg_backend_pid() and backend_type = 'client backend'"
		if err := look.QueryRowContext(within(t, patience), all).Scan(&ended); err != nil {
			t.Fatal(err)
		}
		if ended == 0 {
			t.Fatal("there was no connection to end")
		}
	}
	before := l.read(doneJobs)
	eventually(t, "50 more jobs are done after the last time", func() bool { return l.read(doneJobs) >= before+50 })
	eventually(t, "the stubborn jobs have begun", func() bool {
		return l.read(func(l *ledger) int { return len(l.begun) }) == stubbornMost
	})
	if err := reg.Shutdown(within(t, patience)); err != nil {
		t.Fatalf("shutdown under load: %v", err)
	}
	nothingLeft(t, look, false)

	inQueue := unfinished(t, look)
	if lost := l.missing(inQueue); len(lost) > 0 {
		t.Fatalf("%d accepted jobs neither done nor in the queue: %v", len(lost), lost)
	}
	for n := range l.begun {
		if l.done[n] != 0 || !inQueue[n] {
			t.Errorf("stubborn job %d: done %d times, in the queue: %v; want 0 and true", n, l.done[n], inQueue[n])
		}
	}
	t.Logf("accepted %d, done %d, in the queue %d, of them %d set back", len(l.accepted), len(l.done), len(inQueue), expire(t, look))

	second, _ := riverService(t, srv.URL(), l, false)
	if err := second.Start(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all accepted jobs are done", func() bool { return len(l.missing(nil)) == 0 })
	eventually(t, "the queue is empty", func() bool { return len(unfinished(t, look)) == 0 })
	if err := second.Shutdown(within(t, patience)); err != nil {
		t.Fatalf("second shutdown: %v", err)
	}
	nothingLeft(t, look, false)
}

// unfinished are the jobs that River would still do.
func unfinished(tb testing.TB, look *sql.DB) map[int]bool {
	tb.Helper()
	rows, err := look.QueryContext(within(tb, patience), `select (args->>'number')::int from river_job
		where state in ('available', 'pending', 'retryable', 'running', 'scheduled')`)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	found := map[int]bool{}
	for rows.Next() {
		var n int
		if err := rows.Scan(&n); err != nil {
			tb.Fatal(err)
		}
		found[n] = true
	}
	if err := rows.Err(); err != nil {
		tb.Fatal(err)
	}
	return found
}

// expire sets back the clock of jobs that no worker works on any more. It returns their number.
// River took a job out, or had done it, and its connection was ended before either could know.
// River takes such a job up again after RescueStuckJobsAfter, an hour unless told otherwise; a test
// need not wait for that.
func expire(tb testing.TB, look *sql.DB) int64 {
	tb.Helper()
	result, err := look.ExecContext(within(tb, patience), "update river_job set attempted_at = now() - interval '2 hours' where state = 'running'")
	if err != nil {
		tb.Fatal(err)
	}
	n, err := result.RowsAffected()
	if err != nil {
		tb.Fatal(err)
	}
	return n
}
