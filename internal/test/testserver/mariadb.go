package testserver

import (
	"context"
	"fmt"
	"io"
	"net"
	"os/exec"
	"os/user"
	"path/filepath"
	"syscall"
	"testing"
)

// MariaDB starts a MariaDB server for this test, with user "root", no password and an empty
// database "test". args are appended to its command line.
func MariaDB(tb testing.TB, args ...string) *Server {
	tb.Helper()
	return own(tb, mariadbKind(), args)
}

// SharedMariaDB returns the test binary's MariaDB server.
func SharedMariaDB(tb testing.TB) *Server {
	tb.Helper()
	return sharedOf(tb, mariadbKind())
}

// DSN returns the address of a MariaDB server in the form of go-sql-driver/mysql.
func (s *Server) DSN() string { return "root@tcp(" + s.addr + ")/test" }

func mariadbKind() kind {
	return kind{
		name:    "mariadb",
		install: "mariadb-server",
		binary:  func() (string, error) { return find("mariadbd", "/usr/sbin", "/usr/libexec") },
		prepare: mariadbInstallDB,
		args: func(s *Server) []string {
			return append([]string{
				"--no-defaults", "--datadir=" + filepath.Join(s.dir, "data"), "--user=" + ownName(),
				"--bind-address=127.0.0.1", "--port=" + s.Port(), "--socket=" + filepath.Join(s.dir, "sock"),
				"--pid-file=" + filepath.Join(s.dir, "pid"), "--skip-name-resolve", "--tmpdir=" + s.dir,
				"--innodb-log-file-size=4M", "--innodb-buffer-pool-size=16M", "--innodb-flush-log-at-trx-commit=0",
			}, s.extra...)
		},
		answers: mariadbAnswers,
		url:     func(addr string) string { return "mysql://root@" + addr + "/test" },
		stop:    syscall.SIGTERM,
	}
}

func mariadbInstallDB(s *Server) error {
	program, err := find("mariadb-install-db", "/usr/bin", "/usr/libexec")
	if err != nil {
		return err
	}
	cmd := exec.Command(program, "--no-defaults", "--datadir="+filepath.Join(s.dir, "data"), //nolint:noctx // ends by itself
		"--auth-root-authentication-method=normal", "--innodb-log-file-size=4M", "--user="+ownName(),
		"--tmpdir="+s.dir) // not /tmp: its files there are named after process ids, which are not unique across containers
	cmd.Dir = s.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w; it printed:\n%s", err, out)
	}
	return nil
}

// ownName returns our own user name: mariadbd refuses to run as root unless root is named.
func ownName() string {
	u, err := user.Current()
	if err != nil {
		return "root"
	}
	return u.Username
}

// mariadbAnswers reads the handshake: protocol version 10, or an error packet while the server
// starts.
func mariadbAnswers(ctx context.Context, addr string) error {
	return converse(ctx, addr, func(c net.Conn) error {
		head := make([]byte, 5) // length (3), sequence (1), first byte of the payload
		if _, err := io.ReadFull(c, head); err != nil {
			return err
		}
		if head[4] != 10 {
			return fmt.Errorf("answered with packet type %#x instead of a handshake", head[4])
		}
		return nil
	})
}
