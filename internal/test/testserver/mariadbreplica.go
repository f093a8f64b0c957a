package testserver

import (
	"os"
	"path/filepath"
	"testing"
)

// MariaDBPrimary starts a MariaDB server as [MariaDB] does, of which [MariaDBReplica] can make
// replicas: with a binary log from its first day.
func MariaDBPrimary(tb testing.TB, args ...string) *Server {
	tb.Helper()
	k := mariadbKind()
	install := k.prepare
	k.prepare = func(s *Server) error { // what is fresh is kept: copying it is a hundred times as fast as installing
		if err := install(s); err != nil {
			return err
		}
		return os.CopyFS(filepath.Join(s.dir, "fresh"), os.DirFS(filepath.Join(s.dir, "data")))
	}
	return own(tb, k, append([]string{"--server-id=1", "--log-bin=binlog"}, args...))
}

// MariaDBReplica starts a replica for this test: an empty, read-only MariaDB server that fetches,
// by GTID, all that primary has written since its first day. primary must be a server of
// [MariaDBPrimary]. args are appended to the replica's command line; a second replica of one
// primary wants another "--server-id" than 2. Like every server it can be killed, frozen and
// restarted, and goes on replicating; "stop all slaves" and "set global read_only = 0" promote it.
func MariaDBReplica(tb testing.TB, primary *Server, args ...string) *Server {
	tb.Helper()
	k := mariadbKind()
	k.prepare = func(s *Server) error {
		return os.CopyFS(filepath.Join(s.dir, "data"), os.DirFS(filepath.Join(primary.dir, "fresh")))
	}
	plain := k.args
	k.args = func(s *Server) []string {
		out := append(plain(s), "--server-id=2", "--log-bin=binlog", "--log-slave-updates", "--read-only", "--slave-net-timeout=5")
		if _, err := os.Stat(filepath.Join(s.dir, "data", "master.info")); err != nil { // the first start: later it is known
			out = append(out, "--init-file="+s.WriteFile(tb, "replicate.sql", []byte(
				"change master to master_host='127.0.0.1', master_port="+primary.Port()+", master_user='root', "+
					"master_use_gtid=slave_pos, master_connect_retry=1;\nstart slave;\n",
			)))
		}
		return append(out, args...)
	}
	return own(tb, k, nil)
}
