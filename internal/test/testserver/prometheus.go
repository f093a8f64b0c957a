package testserver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Prometheus starts a Prometheus for this test, with this configuration. The configuration names other
// files by absolute paths.
func Prometheus(tb testing.TB, config string) *Server {
	tb.Helper()
	return own(tb, prometheusKind(tb, config), nil)
}

func prometheusKind(tb testing.TB, config string) kind {
	tb.Helper()
	return kind{
		name:    "prometheus",
		install: "prometheus",
		binary:  func() (string, error) { return find("prometheus", "/usr/bin", "/usr/local/bin") },
		args: func(s *Server) []string {
			return []string{
				"--config.file=" + s.WriteFile(tb, "prometheus.yml", []byte(config)),
				"--storage.tsdb.path=" + filepath.Join(s.dir, "data"),
				"--web.listen-address=" + s.addr, "--log.level=warn",
			}
		},
		answers: prometheusAnswers,
		url:     func(addr string) string { return "http://" + addr },
		stop:    syscall.SIGTERM,
	}
}

// prometheusAnswers asks whether it is ready for queries.
func prometheusAnswers(ctx context.Context, addr string) error {
	return converse(ctx, addr, func(c net.Conn) error {
		if _, err := io.WriteString(c, "GET /-/ready HTTP/1.0\r\n\r\n"); err != nil {
			return err
		}
		line, err := bufio.NewReader(c).ReadString('\n')
		if err != nil {
			return err
		}
		if !strings.Contains(line, " 200 ") {
			return fmt.Errorf("answered %q", line)
		}
		return nil
	})
}

// Promtool runs Prometheus' tool in a directory and returns what it prints. Without the tool the test
// is skipped, as without a server.
func Promtool(tb testing.TB, dir string, args ...string) (string, error) {
	tb.Helper()
	k := kind{install: "prometheus", binary: func() (string, error) { return find("promtool", "/usr/bin", "/usr/local/bin") }}
	need(tb, k)
	binary, err := k.binary()
	if err != nil {
		tb.Fatal(err)
	}
	cmd := exec.CommandContext(tb.Context(), binary, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		err = fmt.Errorf("promtool %s: %w", strings.Join(args, " "), exit)
	}
	return string(out), err
}
