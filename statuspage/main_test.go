package statuspage_test

import (
	"log/slog"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler)) // registries without a Logger log there
	goleak.VerifyTestMain(m)
}
