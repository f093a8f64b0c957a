package tracing_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(testserver.Main(m)) }
