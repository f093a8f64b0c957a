package sqlpool_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper/internal/test/pooltest"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(testserver.Main(m)) }

// Short names for what the tests of this package say most.
var (
	eventually = testkit.Eventually
	within     = testkit.Within
	quiet      = testkit.Silent
	write      = testkit.Replace
	advance    = testkit.Advance

	subscribed    = pooltest.Subscribed
	hasExpiries   = pooltest.HasExpiries
	hasAllReasons = pooltest.HasAllReasons
)
