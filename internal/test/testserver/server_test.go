package testserver_test

import (
	"net"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(testserver.Main(m))
}

// kinds are the servers, each made by the function that a test calls.
var kinds = map[string]func(testing.TB, ...string) *testserver.Server{
	"redis": testserver.Redis, "postgres": testserver.Postgres, "mariadb": testserver.MariaDB,
	"prometheus": func(tb testing.TB, _ ...string) *testserver.Server {
		tb.Helper()
		return testserver.Prometheus(tb, "global: {scrape_interval: 1s}")
	},
}

func TestKilledServerIsGoneAndComesBackOnTheSameAddress(t *testing.T) {
	testkit.Slow(t)
	for name, own := range kinds {
		t.Run(name, func(t *testing.T) {
			s := own(t)
			addr := s.Addr()
			c := dial(t, addr)
			defer func() { _ = c.Close() }()
			s.Kill(t)
			if s.Running() {
				t.Fatal("still running after Kill")
			}
			if c, err := net.DialTimeout("tcp", addr, time.Second); err == nil {
				_ = c.Close()
				t.Fatal("a killed server accepts connections")
			}
			s.Restart(t)
			if s.Addr() != addr {
				t.Fatalf("address changed from %s to %s", addr, s.Addr())
			}
			_ = dial(t, addr).Close()
			s.Stop(t)
			s.Stop(t) // a stopped server stays stopped
			if s.Running() {
				t.Fatal("still running after Stop")
			}
		})
	}
}

func TestFrozenServerKeepsConnectionsAndSaysNothing(t *testing.T) {
	s := testserver.Redis(t)
	c := dial(t, s.Addr())
	defer func() { _ = c.Close() }()
	s.Freeze(t)
	if _, err := c.Write([]byte("PING\r\n")); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	buf := make([]byte, 16)
	if n, err := c.Read(buf); err == nil {
		t.Fatalf("a frozen server answered %q", buf[:n])
	}
	s.Thaw(t)
	_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
	if _, err := c.Read(buf); err != nil {
		t.Fatalf("a thawed server did not answer what it was asked while frozen: %v", err)
	}
}

func TestSharedServerIsStartedOnceAndOwnOnesAreApart(t *testing.T) {
	a, b := testserver.SharedRedis(t), testserver.SharedRedis(t)
	if a != b {
		t.Fatal("two shared servers in one test binary")
	}
	if own := testserver.Redis(t); own.Addr() == a.Addr() {
		t.Fatal("a test's own server is the shared one")
	}
}

func TestServerLeavesNoDirectoryBehind(t *testing.T) {
	testkit.Slow(t)
	for name, own := range kinds {
		t.Run(name, func(t *testing.T) {
			var dir string
			t.Run("a test", func(t *testing.T) { dir = own(t).Dir() })
			if dir == "" {
				t.Skip("the inner test was skipped: it says why")
			}
			if _, err := os.Stat(dir); !os.IsNotExist(err) {
				t.Fatalf("%s is still there (%v)", dir, err)
			}
		})
	}
}

func dial(tb testing.TB, addr string) net.Conn {
	tb.Helper()
	c, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}
