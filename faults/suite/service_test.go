package suite_test

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
)

// stage is a moment of a service's life at which it gets SIGTERM.
type stage struct {
	name  string
	clean bool // everything works, so that nothing may fail
	early bool // the service is starting
	fault func(s *site) (undo func())
	twice bool // it gets a second SIGTERM
}

func stages() []stage {
	return []stage{
		{name: "serving", clean: true},
		{name: "starting", early: true},
		{name: "during the drain delay, again", twice: true},
		{name: "PostgreSQL is killed", fault: func(s *site) func() { s.postgres.Kill(s); return func() { s.postgres.Restart(s) } }},
		{name: "PostgreSQL is frozen", fault: func(s *site) func() { s.postgres.Freeze(s); return func() { s.postgres.Thaw(s) } }},
		{name: "MariaDB is frozen", fault: func(s *site) func() { s.mariadb.Freeze(s); return func() { s.mariadb.Thaw(s) } }},
		{name: "Redis is frozen", fault: func(s *site) func() { s.redis.Freeze(s); return func() { s.redis.Thaw(s) } }},
	}
}

// site is where the service runs.
type site struct {
	testing.TB

	binary                   string
	redis, postgres, mariadb *testserver.Server
	pg, my                   *sql.DB
	rd                       *redis.Client
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{
		TB: t, binary: filepath.Join(t.TempDir(), "service"),
		redis:    testserver.Redis(t, "--appendonly", "yes", "--appendfsync", "always"),
		postgres: testserver.Postgres(t, "synchronous_commit=on"), mariadb: testserver.MariaDB(t),
	}
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", s.binary, "./service").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	s.rd = redis.NewClient(&redis.Options{Addr: s.redis.Addr(), ClientName: "test"})
	s.pg, s.my = opened(t, "pgx", s.postgres.URL()), opened(t, "mysql", s.mariadb.DSN())
	t.Cleanup(func() { _ = s.rd.Close() })
	s.exec(s.pg, "create table orders (id text)")
	s.exec(s.my, "create table outbox (id varchar(50))")
	return s
}

func opened(tb testing.TB, driver, dsn string) *sql.DB {
	tb.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = db.Close() })
	return db
}

func (s *site) exec(db *sql.DB, text string) {
	s.Helper()
	if _, err := db.ExecContext(s.Context(), text); err != nil {
		s.Fatal(err)
	}
}

// has returns which orders a database has, and how often.
func (s *site) has(db *sql.DB, table string) map[string]int {
	s.Helper()
	out := map[string]int{}
	testkit.Eventually(s, table+" can be read", func() bool { // a server that was restarted is not there at once
		rows, err := db.QueryContext(s.Context(), "select id from "+table) //nolint:gosec // one of two names
		if err != nil {
			return false
		}
		defer func() { _ = rows.Close() }()
		clear(out)
		for rows.Next() {
			var id string
			if err := rows.Scan(&id); err != nil {
				s.Fatal(err)
			}
			out[id]++
		}
		return rows.Err() == nil
	})
	return out
}

// run is one run of the service.
type run struct {
	*site

	cmd  *exec.Cmd
	url  string // empty if it ended before it served
	log  testkit.Log
	http http.Client
	away atomic.Bool // the load balancer has taken the service out: no new connection leads there

	mu       sync.Mutex // guards the following
	accepted []string
	refused  []string // answers other than 200
	broken   []error  // requests without an answer, but for those to a closed port
	streamed error    // how the event stream ended; nil: as it should
}

// A service gets SIGTERM at any moment. What it has accepted is written, by its workers too, exactly
// once. While its servers work no request fails. It ends in time, whatever its servers do, and leaves
// no connection.
//
// INV-1, INV-2, INV-3, INV-8, INV-9.
func TestServiceGetsSIGTERM(t *testing.T) {
	testkit.Slow(t)
	rounds := len(stages())
	if whole() {
		rounds = 100
	}
	s := newSite(t)
	chance := rand.New(rand.NewPCG(*seedFlag, 6)) //nolint:gosec // to be repeated
	accepted := 0
	for i := range rounds {
		at := stages()[i%len(stages())]
		t.Run(fmt.Sprintf("%d %s", i+1, at.name), func(t *testing.T) {
			t.Logf("seed %d", *seedFlag)
			s.TB = t
			accepted += s.round(t, at, chance, fmt.Sprint(i))
		})
	}
	s.TB = t
	t.Logf("%d rounds, %d orders accepted, seed %d", rounds, accepted, *seedFlag)
}

// round is one run of the service, with SIGTERM at a random moment of the stage.
func (s *site) round(t *testing.T, at stage, chance *rand.Rand, name string) (accepted int) {
	t.Helper()
	r := s.launch(t, at.early)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	if !at.early {
		for n := range 10 {
			wg.Go(func() { r.load(ctx, fmt.Sprintf("%s-%d", name, n)) })
		}
		wg.Go(func() { r.follow(ctx) })
		wg.Go(func() { r.probe(ctx) })
		testkit.Eventually(t, "orders are accepted", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return len(r.accepted) > 20 })
	}
	sleep(time.Duration(chance.Float64() * float64(150*time.Millisecond)))
	undo := func() {}
	if at.fault != nil {
		undo = at.fault(s)
		sleep(time.Duration(chance.Float64() * float64(100*time.Millisecond)))
	}
	r.signal(t)
	if at.twice {
		sleep(time.Duration(chance.Float64() * float64(300*time.Millisecond)))
		r.signal(t)
	}
	err := r.wait(t)
	undo()
	cancel()
	wg.Wait()
	r.http.CloseIdleConnections()
	r.judge(t, at, err)
	return len(r.accepted)
}

// launch starts the service. It waits for its address, but when the service is to end early.
func (s *site) launch(t *testing.T, early bool) *run {
	t.Helper()
	r := &run{site: s, cmd: exec.CommandContext(context.WithoutCancel(t.Context()), s.binary)} //nolint:gosec // ours
	r.http.Transport = &http.Transport{MaxIdleConnsPerHost: 20, DialContext: r.dial}
	r.cmd.Stderr = &r.log
	r.cmd.Env = append(os.Environ(), "REDIS_URL="+s.redis.URL(), "POSTGRES_URL="+s.postgres.URL(), "MYSQL_DSN="+s.mariadb.DSN())
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if !early {
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			t.Fatalf("the service did not start: %v\n%s", err, r.log.String())
		}
		r.url = strings.TrimSpace(line)
	}
	return r
}

// dial is what a load balancer does: it opens new connections as long as the service is ready.
// Connections that are open it uses until the service closes them.
func (r *run) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if r.away.Load() {
		return nil, syscall.ECONNREFUSED
	}
	return new(net.Dialer).DialContext(ctx, network, addr)
}

// probe looks at readiness every 10 ms until it is false.
func (r *run) probe(ctx context.Context) {
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for !r.away.Load() {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url+"/readyz", nil)
		if err != nil {
			return
		}
		resp, err := c.Do(req)
		if err == nil {
			_ = resp.Body.Close()
		}
		r.away.Store(err != nil || resp.StatusCode != http.StatusOK)
		pause(ctx, 10*time.Millisecond)
	}
}

// load sends orders until no connection leads to the service.
func (r *run) load(ctx context.Context, name string) {
	for n := 0; ctx.Err() == nil; n++ {
		id := fmt.Sprintf("%s-%d", name, n)
		status, body, err := r.order(ctx, id)
		r.mu.Lock()
		switch {
		case errors.Is(err, syscall.ECONNREFUSED) || ctx.Err() != nil:
		case err != nil:
			r.broken = append(r.broken, err)
		case status == http.StatusOK:
			r.accepted = append(r.accepted, id)
		default:
			r.refused = append(r.refused, fmt.Sprintf("%s: %d %s", id, status, body))
		}
		r.mu.Unlock()
		if err != nil {
			return
		}
		pause(ctx, 2*time.Millisecond)
	}
}

func (r *run) order(ctx context.Context, id string) (status int, body string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url+"/orders/"+id, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := r.http.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

// follow reads events until the service ends the stream.
func (r *run) follow(ctx context.Context) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url+"/events", nil)
	if err == nil {
		var resp *http.Response
		if resp, err = r.http.Do(req); err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.streamed = err
}

func (r *run) signal(t *testing.T) {
	t.Helper()
	if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Error(err)
	}
}

// wait waits for the end of the process, which has 6 s for its shutdown.
func (r *run) wait(t *testing.T) error {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- r.cmd.Wait() }()
	select {
	case err := <-ended:
		return err
	case <-time.After(30 * time.Second):
		_ = r.cmd.Process.Signal(syscall.SIGQUIT)
		t.Fatalf("INV-2: the service has not ended: %v\n%s", <-ended, r.log.String())
		return nil
	}
}

// judge looks for orders that are lost or doubled, and for what is left.
func (r *run) judge(t *testing.T, at stage, exit error) {
	t.Helper()
	defer func() {
		if t.Failed() {
			t.Logf("to repeat: POOLKEEPER_FULL=1 go test ./suite -run TestServiceGetsSIGTERM -seed %d\nthe service's log:\n%s", *seedFlag, r.log.String())
		}
	}()
	if at.clean {
		if exit != nil || len(r.refused)+len(r.broken) > 0 || r.streamed != nil {
			t.Errorf("exit: %v; %d orders refused %v, %d broken off %v; the event stream ended with %v",
				exit, len(r.refused), r.refused, len(r.broken), r.broken, r.streamed)
		}
	}
	if at.early && exit != nil && !endedBySignal(exit) {
		t.Errorf("exit: %v", exit)
	}
	orders, outbox := r.has(r.pg, "orders"), r.has(r.my, "outbox")
	for _, id := range r.accepted {
		if orders[id] != 1 {
			t.Errorf("order %s was accepted, and is written %d times", id, orders[id])
		}
		if n := outbox[id]; n > 1 || n == 0 && exit == nil {
			t.Errorf("order %s was accepted, and its outbox line is written %d times; exit: %v", id, n, exit)
		}
		if in, err := r.rd.SIsMember(t.Context(), "orders", id).Result(); err != nil || !in {
			t.Errorf("order %s was accepted, and Redis has it: %t, %v", id, in, err)
		}
	}
	testkit.Eventually(t, "INV-9: no server has a connection of the service", func() bool {
		return r.count(r.pg, "select count(*) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()") == 0 &&
			r.count(r.my, "select count(*) from information_schema.processlist where user = 'root' and id <> connection_id()") == 0 &&
			strings.Count(r.rd.ClientList(t.Context()).Val(), "\n") == 1
	})
}

// endedBySignal reports whether a process ended by SIGTERM, before it listened for it.
func endedBySignal(err error) bool {
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGTERM
}

func (r *run) count(db *sql.DB, query string) (n int) {
	if err := db.QueryRowContext(r.Context(), query).Scan(&n); err != nil {
		return -1
	}
	return n
}
