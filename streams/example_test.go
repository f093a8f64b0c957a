package streams_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/streams"
)

// A service with a stream of orders. At shutdown its clients are told when to come back.
func Example() {
	ctx := context.Background()
	live, err := streams.New(streams.Config{Retry: 2 * time.Second})
	if err != nil {
		fmt.Println(err)
		return
	}
	mux := http.NewServeMux()
	subscribed := make(chan struct{})
	mux.Handle("GET /orders", live.SSE(func(ctx context.Context, s *streams.Stream) error {
		if failed := s.Subscribe("orders"); failed != nil {
			return failed
		}
		close(subscribed)
		<-ctx.Done() // s.Follow does both
		return nil
	}))

	api := lifecycle.HTTPServer(&http.Server{Addr: "127.0.0.1:0", Handler: mux})
	reg := lifecycle.New(lifecycle.Config{Logger: quietLogger()})
	reg.Add("api", api)
	reg.Add("live", live, lifecycle.WithDependencies("api")) // so that it drains before the server
	if err = reg.Start(ctx); err != nil {
		fmt.Println(err)
		return
	}

	resp, err := http.Get("http://" + api.Addr().String() + "/orders") // a client
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = resp.Body.Close() }()
	<-subscribed

	err = live.Broadcast("orders", streams.Event{ID: "17", Type: "paid", Data: []byte("order 17 is paid")})
	if err != nil {
		fmt.Println(err)
	}
	if report := reg.Shutdown(ctx); report != nil {
		fmt.Println(report)
	}
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		fmt.Println(lines.Text())
	}
	// Output:
	// retry: 2000
	//
	// id: 17
	// event: paid
	// data: order 17 is paid
	//
	// event: close
	// retry: 2000
	// data: going away
}

// One more connection of a user than it may have.
func ExampleConfig_limits() {
	live, err := streams.New(streams.Config{
		MaxPerKey: 1,
		Key:       func(r *http.Request) string { return r.Header.Get("User") },
		Authorize: func(r *http.Request) error {
			if r.Header.Get("User") == "" {
				return fmt.Errorf("no user")
			}
			return nil
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = live.Start(context.Background())
	defer func() { _ = live.Abort() }()
	srv := httptest.NewServer(live.SSE(func(_ context.Context, s *streams.Stream) error { return s.Follow("t") }))
	defer srv.Close()
	defer func() { _ = live.Abort() }() // else the server waits for the stream
	for _, user := range []string{"", "ann", "ann", "bob"} {
		req, _ := http.NewRequest(http.MethodGet, srv.URL, nil)
		req.Header.Set("User", user)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			fmt.Println(err)
			return
		}
		defer func() { _ = resp.Body.Close() }()
		fmt.Printf("%q %d\n", user, resp.StatusCode)
	}
	// Output:
	// "" 401
	// "ann" 200
	// "ann" 429
	// "bob" 200
}

// A client that keeps a stream open. It goes on after the last event it has received, on whatever
// instance it comes back to.
func ExampleNewClient() {
	ctx := context.Background()
	live, err := streams.New(streams.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = live.Start(ctx)
	srv := httptest.NewServer(live.SSE(func(ctx context.Context, s *streams.Stream) error {
		return s.Send(ctx, streams.Event{ID: "17", Data: []byte("order 17 is paid")})
	}))
	defer srv.Close()
	received := make(chan streams.Event, 1)
	orders, err := streams.NewClient(srv.URL, streams.ClientConfig{
		Receive: func(_ context.Context, e streams.Event) error { received <- e; return nil },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = orders.Start(ctx) // or reg.Add("orders", orders)
	e := <-received
	fmt.Printf("%s: %s\n", e.ID, e.Data)
	fmt.Println(orders.Stop(ctx), live.Stop(ctx))
	// Output:
	// 17: order 17 is paid
	// <nil> <nil>
}
