package browser_test

import (
	"flag"
	"log/slog"
	"testing"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/redispool"
)

var update = flag.Bool("update", false, "write the pictures in docs/images anew")

func TestMain(m *testing.M) {
	redis.SetLogger(redispool.GoRedisLogger(slog.New(slog.DiscardHandler)))
	goleak.VerifyTestMain(testserver.Main(m))
}

// Short names for what the tests of this package say most.
var (
	eventually = testkit.Eventually
	within     = testkit.Within
)
