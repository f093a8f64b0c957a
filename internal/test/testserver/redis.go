package testserver

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Redis starts a redis-server for this test, without persistence. args are appended to its command
// line.
func Redis(tb testing.TB, args ...string) *Server {
	tb.Helper()
	return own(tb, redisKind(), args)
}

// SharedRedis returns the test binary's redis-server.
func SharedRedis(tb testing.TB) *Server {
	tb.Helper()
	return sharedOf(tb, redisKind())
}

func redisKind() kind {
	return kind{
		name:    "redis",
		install: "redis-server",
		binary:  func() (string, error) { return find("redis-server", "/usr/bin", "/usr/local/bin") },
		args: func(s *Server) []string {
			return append([]string{
				"--bind", "127.0.0.1", "--port", s.Port(), "--dir", s.dir,
				"--save", "", "--appendonly", "no", "--daemonize", "no",
			}, s.extra...)
		},
		answers: redisAnswers,
		url:     func(addr string) string { return "redis://" + addr + "/0" },
		stop:    syscall.SIGTERM,
	}
}

// redisAnswers sends an inline PING. NOAUTH and MASTERDOWN count as answers: tests may set a
// password, or cut a replica off.
func redisAnswers(ctx context.Context, addr string) error {
	return converse(ctx, addr, func(c net.Conn) error {
		if _, err := io.WriteString(c, "PING\r\n"); err != nil {
			return err
		}
		line, err := bufio.NewReader(c).ReadString('\n')
		if err != nil {
			return err
		}
		if !strings.HasPrefix(line, "+PONG") && !strings.HasPrefix(line, "-NOAUTH") && !strings.HasPrefix(line, "-MASTERDOWN") {
			return fmt.Errorf("answered %q to PING", line)
		}
		return nil
	})
}

// converse dials addr and runs a short exchange, bounded in time.
func converse(ctx context.Context, addr string, talk func(net.Conn) error) error {
	d := net.Dialer{Timeout: time.Second}
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	return talk(c)
}
