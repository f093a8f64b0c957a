package lifecycletest_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/lifecycle/lifecycletest"
)

// What a test of a service looks like.
func Example() {
	testOrders := func(t *testing.T) {
		reg := lifecycletest.New(t, lifecycle.Config{})
		reg.Add("orders", &lifecycletest.Fake{}) // the real pool
		reg.Add("api", &lifecycletest.Fake{}, lifecycle.DependsOn("orders"))
		lifecycletest.Start(t, reg)                  // fails the test if it does not come up
		lifecycletest.Order(t, reg, "orders", "api") // api depends on orders
		// The test. At its end everything is stopped, and the test fails for what is left.
	}
	_ = testOrders
	fmt.Println("go test")
	// Output: go test
}

// A fake fails, hangs or panics as told, to see what the rest of a service does then.
func ExampleFake() {
	var journal lifecycletest.Journal
	reg := lifecycle.New(lifecycle.Config{Logger: slog.New(slog.DiscardHandler), ShutdownTimeout: 100 * time.Millisecond})
	reg.Add("db", (&lifecycletest.Fake{Journal: &journal}).As(lifecycletest.Drains))
	reg.Add("flaky", &lifecycletest.Fake{
		Journal: &journal,
		OnStop:  lifecycletest.Script{Fail: 1, Err: errors.New("lost a message")},
	}, lifecycle.DependsOn("db"))
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
