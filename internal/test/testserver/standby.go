package testserver

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"
)

// PostgresStandby starts a hot standby for this test: a copy of primary, taken while that runs,
// which then streams what primary writes. It takes reads once Postgres would. primary must be a
// server of [Postgres] or another standby. settings are the standby's own. Like every server it can
// be killed, frozen and restarted, and stays a standby; "select pg_promote()" makes it a primary.
func PostgresStandby(tb testing.TB, primary *Server, settings ...string) *Server {
	tb.Helper()
	k := postgresKind()
	k.prepare = func(s *Server) error { return basebackup(s, primary) }
	return own(tb, k, settings)
}

// basebackup copies primary and says in the copy where to stream from. A PostgreSQL's default
// settings allow it: wal_level is replica, max_wal_senders 10, hot_standby on.
func basebackup(s, primary *Server) error {
	program, err := find("pg_basebackup", postgresBinaries)
	if err != nil {
		return err
	}
	cmd := exec.Command(program, "-D", filepath.Join(s.dir, "data"), //nolint:noctx // ends with the primary at the latest
		"-h", "127.0.0.1", "-p", primary.Port(), "-U", "postgres", "-w",
		"-R", "-X", "stream", "--checkpoint=fast", "--no-sync")
	cmd.Dir = s.dir
	cmd.SysProcAttr = attributes(s.cred)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w; it printed:\n%s", err, out)
	}
	return nil
}
