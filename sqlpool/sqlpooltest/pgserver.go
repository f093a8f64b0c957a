package sqlpooltest

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"runtime/pprof"
	"slices"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/printing"
	"github.com/poolkeeper/poolkeeper/sqlpool"
)

// PostgresServer speaks PostgreSQL's protocol on a port of the loopback interface, or in memory,
// gives the answers it was told to give, and fails when it is told to. Its methods are safe for
// concurrent use. It is stopped at the end of its test.
//
// It knows transactions (and answers 25P02 in one that has failed), BEGIN … READ ONLY, savepoints,
// prepared statements, cancel requests, the simple and the extended protocol. SET, RESET, LISTEN
// and their kin succeed and do nothing. It has no tables, no passwords, no TLS, no COPY and no
// cursors: COPY is an error that says so, and so is a statement without an answer.
type PostgresServer struct {
	tb     testing.TB
	addr   string
	memory bool           // it has no port
	all    sync.WaitGroup // of accept loops and sessions

	mu       sync.Mutex // guards the following
	listener net.Listener
	refusing bool
	sessions map[*session]struct{}
	nextPID  uint32
	answers  []registered
	queries  []Query
	faults   faults
	stopped  bool
}

// String returns the server's address.
func (s *PostgresServer) String() string { return "sqlpooltest.PostgresServer{" + s.addr + "}" }

// Format prints String, whatever the verb.
func (s *PostgresServer) Format(f fmt.State, _ rune) { printing.Format(f, s) }

// LogValue is String, for slog.
func (s *PostgresServer) LogValue() slog.Value { return printing.LogValue(s) }

// MarshalJSON returns String as a JSON string.
func (s *PostgresServer) MarshalJSON() ([]byte, error) { return printing.JSON(s) }

// Query is one statement that a [PostgresServer] was asked to run.
type Query struct {
	SQL  string
	Args []any // as in [Answer.Func]
}

// ServePostgres starts a fake PostgreSQL server, without a pool: for code that opens its own, and
// for several servers.
func ServePostgres(tb testing.TB) *PostgresServer {
	tb.Helper()
	s := &PostgresServer{tb: tb, sessions: make(map[*session]struct{})}
	if err := s.listen("127.0.0.1:0"); err != nil {
		tb.Fatalf("sqlpooltest: %v", err)
	}
	tb.Cleanup(s.stop)
	return s
}

// NewPostgres returns a started pool on a fake PostgreSQL server of its own, and the server, to say
// what it answers and how it fails. At the end of the test both are stopped; the test fails if a
// connection is still held. Functions may change the pool's configuration. Everything but the
// server is as in production; no connection is pinged of the pool's own accord.
func NewPostgres(
	tb testing.TB, configure ...func(*sqlpool.PostgresConfig),
) (*sqlpool.Postgres, *PostgresServer) {
	tb.Helper()
	pool, s := NewUnstartedPostgres(tb, configure...)
	start(tb, pool)
	return pool, s
}

// NewUnstartedPostgres is [NewPostgres] without the start of the pool: for a Registry, or for code
// under test that starts its pools itself.
func NewUnstartedPostgres(
	tb testing.TB, configure ...func(*sqlpool.PostgresConfig),
) (*sqlpool.Postgres, *PostgresServer) {
	tb.Helper()
	s := ServePostgres(tb)
	return poolOn(tb, s, configure), s
}

func poolOn(tb testing.TB, s *PostgresServer, configure []func(*sqlpool.PostgresConfig)) *sqlpool.Postgres {
	tb.Helper()
	cfg := sqlpool.PostgresConfig{Name: "fake", URL: s.URL(), KeepAlive: poolkeeper.Off}
	for _, change := range configure {
		change(&cfg)
	}
	pool, err := sqlpool.NewPostgres(cfg)
	if err != nil {
		tb.Fatalf("sqlpooltest: %v", err)
	}
	tb.Cleanup(func() {
		s.Heal() // a fault that outlives the test must not look like one of the pool's
		stop(tb, pool)
	})
	return pool
}

// URL returns what a client opens; of a server in memory, by its Dial.
func (s *PostgresServer) URL() string { return "postgres://fake@" + s.addr + "/fake?sslmode=disable" }

// Addr returns "127.0.0.1:port". It stays the same, whatever the server is told to do. Of a server
// in memory it is only a name.
func (s *PostgresServer) Addr() string { return s.addr }

// Connections returns how many clients are logged in now. A pool has one more than its Stats say,
// for its checks.
func (s *PostgresServer) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for c := range s.sessions {
		if c.loggedIn {
			n++
		}
	}
	return n
}

// Queries returns the statements the server was asked to run so far, in order, refused ones
// included. Pings and what the pool itself asks are not among them.
func (s *PostgresServer) Queries() []Query {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.queries)
}

func (s *PostgresServer) record(q Query) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queries = append(s.queries, q)
}

func (s *PostgresServer) listen(addr string) error {
	var lc net.ListenConfig
	l, err := lc.Listen(context.WithoutCancel(s.tb.Context()), "tcp", addr)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped || s.listener != nil {
		return l.Close()
	}
	s.listener, s.addr = l, l.Addr().String()
	// Owner: the server. It ends when the listener is closed, by stop or Refuse; stop waits for it.
	s.all.Go(func() { s.accept(l) })
	return nil
}

func (s *PostgresServer) accept(l net.Listener) {
	unlabel()
	for {
		conn, err := l.Accept()
		if err != nil {
			return // closed
		}
		if !s.talk(conn) {
			_ = conn.Close()
			return
		}
	}
}

// unlabel takes away the labels of the calling goroutine, which is the kit's. lifecycletest tells
// goroutines that were left behind by their labels; the kit's end after the registry.
func unlabel() { pprof.SetGoroutineLabels(context.Background()) } //nolint:forbidigo // no labels

// talk serves a new client, or reports false if the server is stopped, or refuses.
func (s *PostgresServer) talk(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped || s.refusing {
		return false
	}
	s.nextPID++
	c := newSession(s, conn, s.nextPID)
	s.sessions[c] = struct{}{}
	// Owner: the server. It ends when its socket is closed, by the client, a fault or stop; stop
	// waits for it.
	s.all.Go(func() {
		unlabel()
		defer s.dismiss(c)
		c.serve()
	})
	return true
}

func (s *PostgresServer) dismiss(c *session) {
	c.hangUp()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, c)
}

// logIn counts a client as logged in, or says why it is refused.
func (s *PostgresServer) logIn(c *session) *pgconn.PgError {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.faults.login != nil {
		return s.faults.login
	}
	if limit := s.faults.maxConnections; limit > 0 {
		n := 0
		for other := range s.sessions {
			if other.loggedIn {
				n++
			}
		}
		if n >= limit {
			return &pgconn.PgError{Severity: "FATAL", Code: "53300", Message: "sorry, too many clients already"}
		}
	}
	c.loggedIn = true
	return nil
}

// cancel interrupts what a session is doing, as a client's CancelRequest asks.
func (s *PostgresServer) cancel(pid uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.sessions {
		if c.pid == pid {
			select {
			case c.cancelled <- struct{}{}:
			default: // it has been asked already
			}
		}
	}
}

func (s *PostgresServer) sessionsNow() []*session {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*session, 0, len(s.sessions))
	for c := range s.sessions {
		out = append(out, c)
	}
	return out
}

// stop closes every connection and waits until no goroutine is left.
func (s *PostgresServer) stop() {
	s.mu.Lock()
	s.stopped = true
	l := s.listener
	s.listener = nil
	s.mu.Unlock()
	if l != nil {
		_ = l.Close()
	}
	for _, c := range s.sessionsNow() {
		c.hangUp()
	}
	s.all.Wait()
}
