package lifecycletest_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/lifecycle/lifecycletest"
)

// A fake fails, hangs or panics as told, to see what the rest of a service does then.
func ExampleFake() {
	var journal lifecycletest.Journal
	reg := lifecycle.New(lifecycle.Config{Logger: slog.New(slog.DiscardHandler), ShutdownTimeout: 100 * time.Millisecond})
	reg.Add("db", (&lifecycletest.Fake{Journal: &journal}).As(lifecycletest.Drains))
	reg.Add("flaky", &lifecycletest.Fake{
		Journal: &journal,
		OnStop:  lifecycletest.Script{Fail: 1, Err: errors.New("lost a message")},
	}, lifecycle.WithDependencies("db"))
	ctx := context.Background()
	_ = reg.Start(ctx)
	_ = reg.Shutdown(ctx)
	for _, line := range journal.Lines() {
		fmt.Println(line)
	}
	// Output:
	// db: start
	// db: start done
	// flaky: start
	// flaky: start done
	// flaky: stop
	// flaky: stop failed
	// db: drain
	// db: drain done
	// db: stop
	// db: stop done
}
