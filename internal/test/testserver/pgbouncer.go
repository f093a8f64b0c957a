package testserver

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// PgBouncer starts a pgbouncer in transaction mode for this test, in front of target, for user and
// database "postgres". Each setting is "name=value" as in the section [pgbouncer] of its file. Its
// console is the database "pgbouncer".
func PgBouncer(tb testing.TB, target *Server, settings ...string) *Server {
	tb.Helper()
	return own(tb, pgBouncerKind(tb, target), settings)
}

func pgBouncerKind(tb testing.TB, target *Server) kind {
	tb.Helper()
	return kind{
		name:    "pgbouncer",
		install: "pgbouncer",
		binary:  func() (string, error) { return find("pgbouncer", "/usr/sbin", "/usr/local/bin") },
		args: func(s *Server) []string {
			users := s.WriteFile(tb, "users", []byte(`"postgres" ""`+"\n"))
			lines := append([]string{
				"[databases]", "* = host=127.0.0.1 port=" + target.Port(),
				"[pgbouncer]", "listen_addr = 127.0.0.1", "listen_port = " + s.Port(), "unix_socket_dir =",
				"auth_type = trust", "auth_file = " + users, "admin_users = postgres", "pool_mode = transaction",
			}, s.extra...)
			s.WriteFile(tb, "pgbouncer.ini", []byte(strings.Join(lines, "\n")+"\n"))
			return []string{filepath.Join(s.dir, "pgbouncer.ini")}
		},
		answers: postgresAnswers,
		url:     func(addr string) string { return "postgres://postgres@" + addr + "/postgres?sslmode=disable" },
		stop:    syscall.SIGTERM,
		asUser:  postgresUser, // it refuses to run as root, too
	}
}
