package httpclient_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/httpclient"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/lifecycle"
)

func Example() {
	billing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "42 invoices") }))
	defer billing.Close()
	ctx := context.Background()

	reg := lifecycle.New(lifecycle.Config{Logger: testkit.Silent()})
	client, err := httpclient.New(httpclient.Config{BaseURL: billing.URL, CheckPath: "/healthz", Class: httpclient.ClassShort})
	if err != nil {
		fmt.Println(err)
		return
	}
	reg.Add("billing", client)
	if err = reg.Start(ctx); err != nil { // requests /healthz
		fmt.Println(err)
		return
	}
	resp, err := client.HTTP().Get(billing.URL + "/v1/invoices")
	if err != nil {
		fmt.Println(err)
		return
	}
	text, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	fmt.Println(string(text), err, reg.Shutdown(ctx))
	// Output: 42 invoices <nil> <nil>
}

func ExampleTimeoutError() {
	gone := make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-gone }))
	defer slow.Close()
	defer close(gone)
	client, err := httpclient.New(httpclient.Config{Name: "billing", HeaderTimeout: 50 * time.Millisecond})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = client.Abort() }()
	_, err = client.HTTP().Get(slow.URL)
	if late, ok := errors.AsType[*httpclient.TimeoutError](err); ok {
		fmt.Println(late.Stage)
		fmt.Println(late)
	}
	// Output:
	// header
	// httpclient: "billing": no response header within HeaderTimeout, 50ms
}

func ExampleNewSet() {
	set, err := httpclient.NewSet(map[string]httpclient.Config{
		"billing": {BaseURL: "https://billing.internal", Class: httpclient.ClassShort},
		"exports": {BaseURL: "https://exports.internal", Class: httpclient.ClassStreaming},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = set.Abort() }()
	fmt.Println(set)
	fmt.Println(set.Get("billing"))
	// Output:
	// httpclient.Set{billing, exports}
	// httpclient.Client{"billing", in flight: 0}
}

// Several servers of one service take turns. The name of the service stays that of BaseURL.
func ExampleConfig_hosts() {
	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Host) })
	first, second := httptest.NewServer(answer), httptest.NewServer(answer)
	defer first.Close()
	client, err := httpclient.New(httpclient.Config{
		BaseURL:   "http://billing.internal",
		Hosts:     []string{first.Listener.Addr().String(), second.Listener.Addr().String()},
		Isolation: poolkeeper.Isolation{MinScore: 75}, // a host that serves badly gets no requests
		Logger:    testkit.Silent(),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = client.Abort() }()
	second.Close() // its requests go to the other one
	for range 3 {
		resp, err := client.HTTP().Get("http://billing.internal/v1/invoices")
		if err != nil {
			fmt.Println(err)
			return
		}
		text, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		fmt.Println(string(text))
	}
	// Output:
	// billing.internal
	// billing.internal
	// billing.internal
}
