package httpclient_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/httpclient"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
)

// startedSet returns a set that has been started, and is stopped with the test.
func startedSet(t *testing.T, configs map[string]httpclient.Config) *httpclient.Set {
	t.Helper()
	for name, cfg := range configs {
		cfg.Logger = testkit.Silent()
		configs[name] = cfg
	}
	s, err := httpclient.NewSet(configs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Abort() })
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSetReloadsAllClientsOrNone(t *testing.T) {
	t.Parallel()
	srv := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "x") })
	configs := map[string]httpclient.Config{"billing": {BaseURL: srv.URL, MaxOpen: 5}, "exports": {BaseURL: srv.URL, MaxOpen: 6}}
	s := startedSet(t, configs)
	change := func(billing, exports httpclient.Config) map[string]httpclient.Config {
		billing.Logger, exports.Logger = configs["billing"].Logger, configs["exports"].Logger
		return map[string]httpclient.Config{"billing": billing, "exports": exports}
	}
	limits := func() [2]int { return [2]int{s.Get("billing").Stats().Max, s.Get("exports").Stats().Max} }

	next := change(httpclient.Config{BaseURL: srv.URL, MaxOpen: 7}, httpclient.Config{BaseURL: srv.URL, MaxOpen: 8})
	changes, err := s.Plan(next)
	if err != nil || len(changes) != 4 || changes[0].Field != "billing.MaxOpen" || changes[2].Field != "exports.MaxOpen" {
		t.Errorf("plan: %v, %v", changes, err)
	}
	nowhere := "http://" + testkit.FreeAddr(t)
	for name, bad := range map[string]map[string]httpclient.Config{
		"one that does not answer": change(next["billing"], httpclient.Config{BaseURL: nowhere}),
		"a faulty one":             change(next["billing"], httpclient.Config{BaseURL: srv.URL, MaxOpen: -1}),
		"a missing one":            {"billing": next["billing"]},
		"another one":              {"billing": next["billing"], "exports": next["exports"], "more": {}},
	} {
		if err := s.Reload(t.Context(), bad); err == nil || limits() != [2]int{5, 6} {
			t.Errorf("%s: %v, limits %v", name, err, limits())
		}
	}
	if _, err := s.Plan(change(httpclient.Config{MaxOpen: -1}, httpclient.Config{MaxIdle: -1})); err == nil ||
		!strings.Contains(err.Error(), `"billing": httpclient: MaxOpen is -1`) || !strings.Contains(err.Error(), `"exports": httpclient: MaxIdle is -1`) {
		t.Errorf("a plan with two faults: %v", err)
	}
	if err := s.Reload(t.Context(), next); err != nil || limits() != [2]int{7, 8} {
		t.Errorf("%v, limits %v", err, limits())
	}
	if err := errors.Join(s.Stop(t.Context())); err != nil {
		t.Error(err)
	}
	if err := s.Reload(t.Context(), configs); !errors.Is(err, poolkeeper.ErrClosed) {
		t.Errorf("after Stop: %v", err)
	}
}

func TestSetResetsAndObservesItsClients(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2, saysHost)
	s := startedSet(t, map[string]httpclient.Config{"billing": {BaseURL: service, Hosts: f.hosts, FailFastAfter: poolkeeper.Off}, "any": {}})
	var mu sync.Mutex
	var seen []error
	s.ObserveWith(observer(func(err error) { mu.Lock(); defer mu.Unlock(); seen = append(seen, err) }))
	for range 4 {
		if _, err := get(t.Context(), s.Get("billing"), service); err != nil {
			t.Fatal(err)
		}
	}
	st := s.Stats()
	if len(st.Members) != 3 || st.Members[0].Name != "any" || st.Members[1].Name != "billing/"+f.hosts[0] || st.Open != 2 || st.Acquired != 4 {
		t.Errorf("%+v", st)
	}
	s.Reset()
	testkit.Eventually(t, "connections are replaced", func() bool { st := s.Stats(); return st.Open == 0 && st.Generation == 2 })
	if _, err := get(t.Context(), s.Get("any"), "http://"+testkit.FreeAddr(t)); err == nil {
		t.Error("it is answered by no server")
	}
	s.ObserveWith(nil)
	_, _ = get(t.Context(), s.Get("any"), "http://"+testkit.FreeAddr(t))
	mu.Lock()
	defer mu.Unlock()
	if len(seen) != 1 || seen[0] == nil {
		t.Errorf("observed %v, want the one failure", seen)
	}
}

type observer func(error)

func (f observer) Observe(err error) { f(err) }
