package testkit

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
)

// Claimed ports lie below those that systems give to outgoing connections and to listeners that
// name no port (from 32768 on Linux, from 49152 elsewhere): otherwise any process's connection can
// take the port of a server that is down for a moment, and its restart then finds the address in
// use.
const (
	firstPort = 20000
	ports     = 10000
)

// claims are the ports that this process has claimed. Other processes see them by its locks.
//
//nolint:gochecknoglobals // ports are the machine's
var claims struct {
	mu    sync.Mutex // guards held; taking a port is one step
	held  map[int]bool
	locks locker
}

// FreeAddr returns a host and port at which no process listens. It is the test's own until the test
// ends: no other test gets it, not even of another package that runs at the same time.
func FreeAddr(tb testing.TB) string {
	tb.Helper()
	addr, release, err := ClaimAddr(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(release)
	return addr
}

// ClaimAddr is [FreeAddr] for what outlives a test: the address is the caller's until it calls
// release, or the process ends.
func ClaimAddr(ctx context.Context) (addr string, release func(), err error) {
	start := rand.N(ports)
	for i := range ports {
		port := firstPort + (start+i)%ports
		taken, err := claim(ctx, port)
		switch {
		case err != nil:
			return "", nil, fmt.Errorf("testkit: claim a port: %w", err)
		case taken:
			return addrOf(port), sync.OnceFunc(func() { giveUp(port) }), nil
		}
	}
	return "", nil, fmt.Errorf("testkit: every port from %d to %d is taken", firstPort, firstPort+ports-1)
}

func addrOf(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// claim reports whether the port is ours now. It is not if another process has claimed it or uses
// it.
func claim(ctx context.Context, port int) (bool, error) {
	claims.mu.Lock()
	defer claims.mu.Unlock()
	if claims.held[port] {
		return false, nil
	}
	if locked, err := claims.locks.lock(port); err != nil || !locked {
		return false, err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", addrOf(port))
	if err != nil {
		claims.locks.unlock(port)
		return false, ctx.Err() // whatever else it is, the next port may do
	}
	if claims.held == nil {
		claims.held = map[int]bool{}
	}
	claims.held[port] = true
	return true, l.Close()
}

func giveUp(port int) {
	claims.mu.Lock()
	defer claims.mu.Unlock()
	delete(claims.held, port)
	claims.locks.unlock(port)
}

// HungAddr returns an address that takes connections, and never answers on them.
func HungAddr(tb testing.TB) string {
	tb.Helper()
	l, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}
