package testserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"

	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
)

// own starts a server for one test.
func own(tb testing.TB, k kind, extra []string) *Server {
	tb.Helper()
	need(tb, k)
	s, err := launch(tb.Context(), k, extra)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.destroy(); err != nil {
			tb.Errorf("testserver: clean up %s: %v", k.name, err)
		}
	})
	return s
}

// need skips or fails the test if the server's binary is missing.
func need(tb testing.TB, k kind) {
	tb.Helper()
	if testing.Short() {
		tb.Skip("needs a real server: not with -short")
	}
	_, err := k.binary()
	switch {
	case err == nil:
	case !errors.Is(err, exec.ErrNotFound):
		tb.Fatal(err)
	case testkit.Full():
		tb.Fatalf("testserver: %v, and %s=1: apt-get install %s", err, testkit.FullEnv, k.install)
	default:
		tb.Skipf("needs a real server: %v: apt-get install %s", err, k.install)
	}
}

// shared are the servers that live as long as the test binary, by kind.
//
//nolint:gochecknoglobals // one per test binary is the point
var shared struct {
	mu      sync.Mutex // guards servers; held while one starts, so that it starts once
	servers map[string]*Server
}

func sharedOf(tb testing.TB, k kind) *Server {
	tb.Helper()
	need(tb, k)
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if s := shared.servers[k.name]; s != nil {
		return s
	}
	// Not the test's context: the server outlives the first test that asks for it.
	s, err := launch(context.WithoutCancel(tb.Context()), k, nil)
	if err != nil {
		tb.Fatal(err)
	}
	if shared.servers == nil {
		shared.servers = map[string]*Server{}
	}
	shared.servers[k.name] = s
	return s
}

// Main returns m with the shared servers stopped at the end of its Run, before goleak looks for
// leaked goroutines: goleak.VerifyTestMain(testserver.Main(m)).
func Main(m interface{ Run() int }) interface{ Run() int } { return tests{m} }

type tests struct{ m interface{ Run() int } }

// Run runs the tests and stops the shared servers.
func (t tests) Run() int {
	code := t.m.Run()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	for name, s := range shared.servers {
		if err := s.destroy(); err != nil {
			fmt.Fprintf(os.Stderr, "testserver: clean up %s: %v\n", name, err)
			code = max(code, 1)
		}
	}
	shared.servers = nil
	return code
}
