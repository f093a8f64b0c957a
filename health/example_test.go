package health_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/poolkeeper/poolkeeper/health"
)

// ask prints what an orchestrator would see.
func ask(h http.Handler, path string) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, http.NoBody))
	fmt.Println(path, w.Code, strings.TrimSpace(w.Body.String()))
}

// waitFor waits until readiness is that.
func waitFor(m *health.Monitor, ready bool) {
	for m.Report().Ready() != ready {
		<-time.After(time.Millisecond)
	}
}

func Example() {
	ctx := context.Background()
	m := health.New(health.Config{})
	_, err := m.Register(health.Check{
		Name:  "postgres",
		Probe: func(context.Context) error { return nil }, // pool.Ping
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	probes := health.Handler(m)
	ask(probes, "/readyz")
	if err := m.Start(ctx); err != nil {
		fmt.Println(err)
		return
	}
	waitFor(m, true)
	ask(probes, "/readyz")
	ask(probes, "/readyz/postgres")
	ask(probes, "/livez")
	m.SetDraining() // the service is about to stop
	ask(probes, "/readyz")
	fmt.Println(m.Stop(ctx))
	// Output:
	// /readyz 503 fail
	// /readyz 200 ok
	// /readyz/postgres 200 ok
	// /livez 200 ok
	// /readyz 503 fail
	// <nil>
}

func ExampleWithDetails() {
	m := health.New(health.Config{})
	refused := func(context.Context) error { return errors.New("connection refused") }
	_, _ = m.Register(health.Check{Name: "postgres", Probe: refused})
	_, _ = m.Register(health.Check{Name: "orders API", Probe: refused, DependsOn: []string{"postgres"}})
	_ = m.Start(context.Background())
	defer func() { _ = m.Stop(context.Background()) }()
	failed := func() bool {
		for _, c := range m.Report().Checks {
			if c.Status != health.StatusFail {
				return false
			}
		}
		return true
	}
	for !failed() {
		<-time.After(time.Millisecond)
	}

	fromInside := func(r *http.Request) bool { return strings.HasPrefix(r.RemoteAddr, "192.0.2.") }
	w := httptest.NewRecorder()
	health.Handler(m, health.WithDetails(fromInside)).
		ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz", http.NoBody)) // from 192.0.2.1
	first, _, _ := strings.Cut(w.Body.String(), "\n")
	_, why, _ := strings.Cut(first, ": ")
	fmt.Println(why)
	// Output: orders API is down because of postgres: connection refused
}

func ExampleMonitor_Heartbeat() {
	m := health.New(health.Config{})
	_ = m.Start(context.Background())
	defer func() { _ = m.Stop(context.Background()) }()

	beat, err := m.Heartbeat("consumer", time.Minute)
	if err != nil {
		fmt.Println(err)
		return
	}
	for range 3 { // the consumer's loop
		beat.Beat()
	}
	beat.Stop() // it ends on purpose
	ask(health.GroupHandler(m, health.GroupLive), "/livez")
	// Output: /livez 200 ok
}

func ExampleMonitor_Hold() {
	m := health.New(health.Config{})
	_ = m.Start(context.Background())
	defer func() { _ = m.Stop(context.Background()) }()

	release := m.Hold("loading the index")
	ask(health.Handler(m), "/readyz")
	release()
	ask(health.Handler(m), "/readyz")
	// Output:
	// /readyz 503 fail
	// /readyz 200 ok
}

func ExampleMonitor_Watch() {
	m := health.New(health.Config{})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	changes := m.Watch(ctx)
	_ = m.Start(ctx)
	for range 2 {
		c := <-changes
		fmt.Println(c.Group, c.From, "to", c.To)
	}
	m.SetDraining()
	c := <-changes
	fmt.Println(c.Group, c.From, "to", c.To, "because", c.Reason)
	_ = m.Stop(ctx)
	// Output:
	// ready fail to pass
	// startup fail to pass
	// ready pass to fail because draining
}

func ExampleDegraded() {
	m := health.New(health.Config{})
	_, _ = m.Register(health.Check{Name: "disk", Probe: func(context.Context) error {
		return health.Degraded(errors.New("92 % full")) // it works, but
	}})
	_ = m.Start(context.Background())
	defer func() { _ = m.Stop(context.Background()) }()
	waitFor(m, true)
	ask(health.Handler(m), "/readyz")
	// Output: /readyz 200 warn
}

func ExampleClassify() {
	err := fmt.Errorf("ping: %w", context.DeadlineExceeded)
	f := health.Classify(err)
	fmt.Println(f.Kind)
	fmt.Println(f.Advice)
	// Output:
	// timeout
	// no answer in time: the server is overloaded or frozen, or the network drops packets
}

func ExampleRegistration_Observe() {
	m := health.New(health.Config{})
	r, err := m.Register(health.Check{
		Name:     "cache",
		Probe:    func(context.Context) error { return nil },
		Interval: time.Hour,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	r.Observe(nil)                               // for every command that worked: a few nanoseconds
	r.Observe(errors.New("connection reset"))    // the server should be asked before the hour is over
	fmt.Println(r.Name(), "is asked again soon") // once the monitor is started
	// Output: cache is asked again soon
}

func ExampleGroupHandler() {
	m := health.New(health.Config{})
	_ = m.Start(context.Background())
	defer func() { _ = m.Stop(context.Background()) }()

	mux := http.NewServeMux() // or any router
	mux.Handle("GET /internal/ready", health.GroupHandler(m, health.GroupReady))
	mux.Handle("GET /internal/ready/{check...}", health.GroupHandler(m, health.GroupReady))
	ask(mux, "/internal/ready")
	ask(mux, "/internal/ready/nobody")
	// Output:
	// /internal/ready 200 ok
	// /internal/ready/nobody 404 not found
}
