package testserver

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// Postgres starts a PostgreSQL server for this test, with user and database "postgres" and no
// password. Each setting is "name=value" as in postgresql.conf.
func Postgres(tb testing.TB, settings ...string) *Server {
	tb.Helper()
	return own(tb, postgresKind(), settings)
}

// SharedPostgres returns the test binary's PostgreSQL server.
func SharedPostgres(tb testing.TB) *Server {
	tb.Helper()
	return sharedOf(tb, postgresKind())
}

const postgresBinaries = "/usr/lib/postgresql/*/bin"

func postgresKind() kind {
	return kind{
		name:    "postgres",
		install: "postgresql",
		binary:  func() (string, error) { return find("postgres", postgresBinaries) },
		prepare: initdb,
		args: func(s *Server) []string {
			args := []string{
				"-D", filepath.Join(s.dir, "data"), "-h", "127.0.0.1", "-p", s.Port(), "-k", s.dir,
				"-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off",
			}
			for _, e := range s.extra {
				args = append(args, "-c", e)
			}
			return args
		},
		answers: postgresAnswers,
		url:     func(addr string) string { return "postgres://postgres@" + addr + "/postgres?sslmode=disable" },
		stop:    syscall.SIGINT, // a fast shutdown: SIGTERM waits for every client to leave
		asUser:  postgresUser,
	}
}

func initdb(s *Server) error {
	program, err := find("initdb", postgresBinaries)
	if err != nil {
		return err
	}
	cmd := exec.Command(program, "-D", filepath.Join(s.dir, "data"), //nolint:noctx // ends by itself
		"-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	cmd.Dir = s.dir
	cmd.SysProcAttr = attributes(s.cred)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w; it printed:\n%s", err, out)
	}
	return nil
}

// postgresUser returns a user other than root, because PostgreSQL refuses to run as root.
func postgresUser() (*credential, error) {
	if os.Getuid() != 0 {
		return nil, nil //nolint:nilnil // nil is "as we are"
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return nil, err
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return nil, err
		}
		return &credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, fmt.Errorf("testserver: running as root, and there is no user postgres or nobody to run PostgreSQL as")
}

// postgresAnswers sends a StartupMessage (PostgreSQL documentation, "Message Formats") and looks at
// the first byte of the answer: an Authentication message, or an error, which is what a server that
// still recovers sends.
func postgresAnswers(ctx context.Context, addr string) error {
	return converse(ctx, addr, func(c net.Conn) error {
		const protocol3 = 3 << 16
		body := binary.BigEndian.AppendUint32(nil, protocol3)
		body = append(body, "user\x00postgres\x00\x00"...)
		msg := binary.BigEndian.AppendUint32(nil, uint32(len(body)+4))
		if _, err := c.Write(append(msg, body...)); err != nil {
			return err
		}
		answer := make([]byte, 512)
		n, err := io.ReadAtLeast(c, answer, 1)
		if err != nil {
			return err
		}
		if answer[0] != 'R' {
			return fmt.Errorf("not ready: %s", strings.ReplaceAll(string(answer[:n]), "\x00", " "))
		}
		return nil
	})
}

// WriteFile puts a file into the server's directory, readable by the server alone, and returns its
// path. A file that exists is replaced.
func (s *Server) WriteFile(tb testing.TB, name string, content []byte) string {
	tb.Helper()
	path := filepath.Join(s.dir, name)
	fresh := path + ".new"
	if err := os.WriteFile(fresh, content, 0o600); err != nil {
		tb.Fatalf("testserver: %v", err)
	}
	if s.cred != nil {
		if err := os.Chown(fresh, int(s.cred.Uid), int(s.cred.Gid)); err != nil {
			tb.Fatalf("testserver: %v", err)
		}
	}
	if err := os.Rename(fresh, path); err != nil {
		tb.Fatalf("testserver: %v", err)
	}
	return path
}
