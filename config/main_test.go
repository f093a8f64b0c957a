package config_test

import (
	"flag"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper/config"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/redispool"
)

var update = flag.Bool("update", false, "write the schema, the table of keys and golden files anew")

func TestMain(m *testing.M) {
	redis.SetLogger(redispool.GoRedisLogger(slog.New(slog.DiscardHandler)))
	goleak.VerifyTestMain(testserver.Main(m))
}

// secret must be in no output.
const secret = "s3cret-sesame"

// write puts a file into a directory of the test's own.
func write(tb testing.TB, text string) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "service.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

// load loads a file that has no faults. Its pools are closed at the end.
func load(tb testing.TB, text string, opts ...config.Option) *config.File {
	tb.Helper()
	f, err := config.Load(write(tb, text), append([]config.Option{config.Logger(testkit.Silent())}, opts...)...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = f.Abort() })
	return f
}
