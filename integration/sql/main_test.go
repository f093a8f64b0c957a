package integration_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper/internal/testserver"
)

func TestMain(m *testing.M) {
	slog.SetDefault(silent()) // the services of the docs have no logger of their own
	goleak.VerifyTestMain(testserver.Main(m))
}

// patience bounds polls for conditions on real servers. River's maintenance begins seconds after its start.
const patience = time.Minute

// eventually polls cond.
func eventually(tb testing.TB, what string, cond func() bool) {
	tb.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !cond(); <-tick.C {
		if time.Now().After(deadline) {
			tb.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// within is the test's context, ended after the test's patience so that a hang is a failure with a name.
func within(tb testing.TB) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), patience)
	tb.Cleanup(cancel)
	return ctx
}

func silent() *slog.Logger { return slog.New(slog.DiscardHandler) }
