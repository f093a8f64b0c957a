package statuspage_test

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"

	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/statuspage"
)

// isOperator lets requests in that bring the token, which is compared in constant time.
func isOperator(r *http.Request) bool {
	token := os.Getenv("STATUS_TOKEN")
	return token != "" && subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), []byte("Bearer "+token)) == 1
}

// A page beside the probes, on a port of its own.
func ExampleNew() {
	reg := lifecycle.New(lifecycle.Config{Logger: slog.New(slog.DiscardHandler)})
	page := statuspage.New(reg, statuspage.Config{Name: "orders-api", Allow: isOperator})

	mux := http.NewServeMux()
	mux.Handle("/", health.Handler(reg.Health()))
	mux.Handle("/status/", http.StripPrefix("/status", page))
	mux.Handle("/debug/pprof/", statuspage.Profiles(isOperator))
	ops := lifecycle.HTTPServer(&http.Server{Addr: "127.0.0.1:0", Handler: mux})

	reg.Add("orders", lifecycle.Hooks{}) // pools, workers, servers
	reg.Add("status", page, lifecycle.WithOps())
	reg.Add("ops", ops, lifecycle.WithOps(), lifecycle.WithDependencies("status"))

	ctx := context.Background()
	if err := reg.Start(ctx); err != nil {
		fmt.Println(err)
	}
	// A stranger sees overall states only.
	resp, err := http.Get("http://" + ops.Addr().String() + "/status/status.json")
	if err != nil {
		fmt.Println(err)
		return
	}
	var d statuspage.Document
	fmt.Println(json.NewDecoder(resp.Body).Decode(&d), resp.Body.Close())
	fmt.Println("details:", d.Details, "phase:", d.Overall.Phase, "ready:", d.Overall.Ready, "components:", len(d.Components))
	http.DefaultClient.CloseIdleConnections()
	fmt.Println(reg.Shutdown(ctx))
	// Output:
	// <nil> <nil>
	// details: false phase: up ready: pass components: 0
	// <nil>
}

// An operator's program reads the same as the page shows.
func ExamplePage_ServeHTTP() {
	reg := lifecycle.New(lifecycle.Config{Logger: slog.New(slog.DiscardHandler)})
	page := statuspage.New(reg, statuspage.Config{Name: "orders-api", Allow: func(*http.Request) bool { return true }})
	reg.Add("orders", lifecycle.Hooks{})
	reg.Add("api", lifecycle.Hooks{}, lifecycle.WithDependencies("orders"))

	w := httptest.NewRecorder()
	page.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/status.json", nil))
	var d statuspage.Document
	if err := json.Unmarshal(w.Body.Bytes(), &d); err != nil {
		fmt.Println(err)
	}
	for _, c := range d.Components {
		fmt.Println(c.Name, c.State, c.DependsOn)
	}
	// Output:
	// orders added []
	// api added [orders]
}

// The URLs of net/http/pprof, guarded, and not on http.DefaultServeMux.
func ExampleProfiles() {
	mux := http.NewServeMux()
	mux.Handle("/debug/pprof/", statuspage.Profiles(isOperator))

	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/debug/pprof/heap", nil))
	fmt.Println(w.Code)
	// Output: 403
}
