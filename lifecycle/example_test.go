package lifecycle_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/lifecycle/event"
)

// pool stands for a connection pool: something to be opened, checked, drained and closed.
type pool struct{ name string }

func (p pool) Start(context.Context) error { fmt.Println("open", p.name); return nil }
func (p pool) Drain(context.Context) error { fmt.Println("drain", p.name); return nil }
func (p pool) Stop(context.Context) error  { fmt.Println("close", p.name); return nil }
func (p pool) Check(context.Context) error { return nil }

// silent keeps the log out of the examples' output.
func silent() *slog.Logger { return slog.New(slog.DiscardHandler) }

// A service with a pool, a server on it, a background job and probes. Run starts all, waits for a
// signal and shuts down; here the job ends it, by ending the context.
func Example() {
	ctx, cancel := context.WithCancel(context.Background())
	reg := lifecycle.New(lifecycle.Config{Logger: silent(), ShutdownTimeout: 25 * time.Second})

	reg.Add("orders", pool{"orders"})
	api := lifecycle.HTTPServer(&http.Server{Addr: "127.0.0.1:0", Handler: http.NotFoundHandler()})
	reg.Add("api", api, lifecycle.WithDependencies("orders"))
	reg.Add("probes", lifecycle.HTTPServer(&http.Server{Addr: "127.0.0.1:0", Handler: health.Handler(reg.Health())}),
		lifecycle.WithOps()) // up first, down last
	reg.Go("report", func(context.Context) error {
		fmt.Println("listening:", api.Addr() != nil)
		cancel()
		return nil
	}, lifecycle.WithDependencies("orders", "api"))

	if err := reg.Run(ctx); err != nil {
		fmt.Println(err)
	}
	// Output:
	// open orders
	// listening: true
	// drain orders
	// close orders
}

// All faults are found before anything starts.
func ExampleRegistry_Validate() {
	reg := lifecycle.New(lifecycle.Config{Logger: silent()})
	reg.Add("orders", pool{"orders"}, lifecycle.WithDependencies("audit"))
	reg.Add("audit", pool{"audit"}, lifecycle.WithDependencies("orders"))
	reg.Add("api", pool{"api"}, lifecycle.WithDependencies("order"))
	fmt.Println(reg.Validate())
	// Output:
	// lifecycle: "api" depends on "order", which was not added; did you mean "orders"?
	// lifecycle: dependency cycle: "orders" → "audit" → "orders"
}

// A component that hangs does not keep the others from stopping, and is named with the place where
// it hangs.
func ExampleRegistry_Shutdown_hung() {
	reg := lifecycle.New(lifecycle.Config{Logger: silent(), ShutdownTimeout: 200 * time.Millisecond})
	reg.Add("orders", pool{"orders"})
	never := make(chan struct{})
	defer close(never)
	reg.Add("mailer", lifecycle.Hooks{OnStop: func(context.Context) error {
		<-never // and it does not look at its context
		return nil
	}}, lifecycle.WithDependencies("orders"))
	ctx := context.Background()
	if err := reg.Start(ctx); err != nil {
		fmt.Println(err)
	}
	err := reg.Shutdown(ctx)
	var hung *lifecycle.ComponentError
	if errors.As(err, &hung) && errors.Is(err, lifecycle.ErrStopTimeout) {
		where, _, _ := strings.Cut(hung.Stack, " (")
		fmt.Println(hung.Name, "hangs in", hung.Phase, "at", where[strings.LastIndex(where, "/")+1:])
	}
	// Output:
	// open orders
	// drain orders
	// close orders
	// mailer hangs in stop at lifecycle_test.ExampleRegistry_Shutdown_hung.func1
}

// Events tell what happens, in order and with durations: enough to print each step of a shutdown.
func ExampleRegistry_Subscribe() {
	reg := lifecycle.New(lifecycle.Config{Logger: silent()})
	reg.Subscribe(func(e event.Event) {
		switch e := e.(type) {
		case *event.Stopped:
			fmt.Printf("%s stopped in %v (%s)\n", e.Name, e.Elapsed.Round(time.Second), e.Outcome)
		default:
			fmt.Println(e)
		}
	})
	reg.Add("cache", lifecycle.Hooks{})
	ctx := context.Background()
	_ = reg.Start(ctx)
	_ = reg.Shutdown(ctx)
	// Output:
	// "cache" is starting
	// "cache" is up
	// all components are up
	// shutting down
	// "cache" is stopping
	// cache stopped in 0s (ok)
	// all components are down
}

// Status says how the last start and shutdown went; its text is for people.
func ExampleRegistry_Status() {
	reg := lifecycle.New(lifecycle.Config{Logger: silent()})
	reg.Add("cache", lifecycle.Hooks{})
	reg.Add("api", lifecycle.Hooks{OnStop: func(context.Context) error { return io.ErrUnexpectedEOF }}, lifecycle.WithDependencies("cache"))
	ctx := context.Background()
	_ = reg.Start(ctx)
	_ = reg.Shutdown(ctx)
	status := reg.Status()
	api, _ := status.Component("api")
	fmt.Println(status.Phase, api.State, api.Down.Outcome, status.Shutdown.Critical)
	// Output:
	// closed stopped failed [api cache]
}

// The graph is a Mermaid flowchart, to be pasted into a page that draws it.
func ExampleRegistry_Graph() {
	reg := lifecycle.New(lifecycle.Config{Logger: silent()})
	reg.Add("orders", lifecycle.Hooks{})
	reg.Add("api", lifecycle.Hooks{}, lifecycle.WithDependencies("orders"))
	for line := range strings.Lines(reg.Graph()) {
		if !strings.Contains(line, "classDef") {
			fmt.Print(line)
		}
	}
	// Output:
	// flowchart TD
	//   c0["orders<br/>added"]:::added
	//   c1["api<br/>added"]:::added
	//   c1 --> c0
}

// A worker that dies is started again after a second, and twice as long each time it dies soon
// again.
func ExampleWithDeathPolicy() {
	reg := lifecycle.New(lifecycle.Config{Logger: silent()})
	lives := 0
	again := make(chan struct{})
	reg.Add("consumer", lifecycle.Worker(func(ctx context.Context) error {
		if lives++; lives == 1 {
			return errors.New("connection reset")
		}
		close(again)
		<-ctx.Done()
		return nil
	}), lifecycle.WithDeathPolicy(lifecycle.DeathPolicyRestart))
	ctx := context.Background()
	_ = reg.Start(ctx)
	<-again
	fmt.Println("lives:", lives, "error:", reg.Shutdown(ctx))
	// Output:
	// lives: 2 error: <nil>
}

// What a handler leaves to be done after the response: finished, or cancelled and waited for,
// before the pool closes.
func ExampleGroup() {
	reg := lifecycle.New(lifecycle.Config{Logger: silent()})
	var mails lifecycle.Group
	reg.Add("orders", pool{"orders"})
	reg.Add("mails", &mails, lifecycle.WithDependencies("orders"))
	ctx := context.Background()
	_ = reg.Start(ctx)
	handler := func(w http.ResponseWriter, _ *http.Request) {
		err := mails.Go(func(context.Context) { fmt.Println("mail sent") })
		if err != nil {
			http.Error(w, "shutting down", http.StatusServiceUnavailable)
		}
	}
	handler(nil, nil)
	_ = reg.Shutdown(ctx)
	// Output:
	// open orders
	// mail sent
	// drain orders
	// close orders
}

// A component of two functions.
func ExampleHooks() {
	reg := lifecycle.New(lifecycle.Config{Logger: silent()})
	reg.Add("migrations", lifecycle.Hooks{
		OnStart: func(context.Context) error { fmt.Println("migrate"); return nil },
	})
	ctx := context.Background()
	fmt.Println(reg.Start(ctx), reg.Shutdown(ctx))
	// Output:
	// migrate
	// <nil> <nil>
}

// Whatever is open already and has a Close.
func ExampleCloser() {
	reg := lifecycle.New(lifecycle.Config{Logger: silent()})
	r, w := io.Pipe()
	reg.Add("pipe", lifecycle.Closer(w))
	fmt.Println(reg.Shutdown(context.Background()))
	_, err := r.Read(make([]byte, 1))
	fmt.Println(err)
	// Output:
	// <nil>
	// EOF
}

// Mark handlers that go on until they are ended. Their contexts end when the server begins to
// drain.
func ExampleStream() {
	mux := http.NewServeMux()
	mux.Handle("/events", lifecycle.Stream(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				_, _ = fmt.Fprintln(w, "data: tick")
			case <-r.Context().Done():
				return // the client has gone, or the server is shutting down
			}
		}
	})))
	mux.HandleFunc("/order", func(http.ResponseWriter, *http.Request) {}) // runs on to its end
	reg := lifecycle.New(lifecycle.Config{Logger: silent()})
	reg.Add("api", lifecycle.HTTPServer(&http.Server{Addr: ":8080", Handler: mux}))
	fmt.Println(reg.Validate())
	// Output: <nil>
}

// The check of a component has its name. What is not zero replaces the default.
func ExampleWithHealthCheck() {
	reg := lifecycle.New(lifecycle.Config{Logger: silent()})
	reg.Add("cache", pool{"cache"}, lifecycle.WithHealthCheck(health.Check{Impact: health.ImpactDegrading, Interval: time.Minute}))
	ctx := context.Background()
	_ = reg.Start(ctx)
	check, _ := reg.Health().Report().Check("cache")
	fmt.Println(check.Name, check.Impact)
	_ = reg.Shutdown(ctx)
	// Output:
	// open cache
	// cache degrading
	// drain cache
	// close cache
}
