package testserver

import (
	"path/filepath"
	"strings"
	"testing"
)

// RedisSentinel starts a Redis Sentinel for this test. It watches the primary at primaryPort by a
// name, and needs another one's agreement to call it down. Each line goes to its configuration file,
// as "sentinel down-after-milliseconds shop 500". args are appended to its command line.
func RedisSentinel(tb testing.TB, name, primaryPort string, lines []string, args ...string) *Server {
	tb.Helper()
	k := redisKind()
	k.name = "sentinel"
	k.args = func(s *Server) []string {
		text := append([]string{
			"port " + s.Port(), "bind 127.0.0.1", "dir " + s.dir, "sentinel monitor " + name + " 127.0.0.1 " + primaryPort + " 2",
		}, lines...)
		s.WriteFile(tb, "sentinel.conf", []byte(strings.Join(text, "\n")+"\n")) // a sentinel writes to it
		return append([]string{filepath.Join(s.dir, "sentinel.conf"), "--sentinel"}, s.extra...)
	}
	return own(tb, k, args)
}
