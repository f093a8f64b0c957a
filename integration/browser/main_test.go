package browser_test

import (
	"context"
	"flag"
	"testing"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
)

var update = flag.Bool("update", false, "write the pictures in docs/images anew")

func TestMain(m *testing.M) {
	redis.SetLogger(quiet{})
	goleak.VerifyTestMain(testserver.Main(m))
}

// quiet silences go-redis' own log, which is one for the whole process.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

// Short names for what the tests of this package say most.
var (
	eventually = testkit.Eventually
	within     = testkit.Within
)
