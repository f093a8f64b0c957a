package integration_test

import (
	"log/slog"
	"testing"

	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
)

func TestMain(m *testing.M) {
	slog.SetDefault(silent()) // the services of the docs have no logger of their own
	goleak.VerifyTestMain(testserver.Main(m))
}

// Short names for what the tests of this package say most.
var (
	eventually = testkit.Eventually
	within     = testkit.Within
	silent     = testkit.Silent
)

const patience = testkit.Patience
