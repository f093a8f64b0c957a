package httpclient_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/httpclient"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
)

// isolating is quick, so that a test sees the whole of it.
func isolating() poolkeeper.Isolation {
	return poolkeeper.Isolation{MinScore: 75, After: 300 * time.Millisecond, Retry: 200 * time.Millisecond, TrialShare: 0.2}
}

// Requests move away from a host that serves badly, and come back once it is well.
func TestHostThatServesBadlyIsIsolatedUntilItRecovers(t *testing.T) {
	t.Parallel()
	for name, bad := range map[string]http.HandlerFunc{
		"slow":   func(http.ResponseWriter, *http.Request) { <-time.After(100 * time.Millisecond) },
		"500":    func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"resets": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var ill atomic.Bool
			var hosts []string
			var answered [3]atomic.Int64
			for i := range 3 {
				srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
					if answered[i].Add(1); i == 1 && ill.Load() {
						bad(w, r)
					}
				})
				hosts = append(hosts, srv.Listener.Addr().String())
			}
			var log testkit.Log
			c := started(t, httpclient.Config{Name: "billing", BaseURL: service, Hosts: hosts, Isolation: isolating(), Logger: log.Logger()})
			traffic(t, c)
			ill.Store(true)
			member := func() poolkeeper.MemberStats { return c.Stats().Members[1] }
			var isolated poolkeeper.MemberStats
			testkit.Eventually(t, "it is isolated", func() bool { isolated = member(); return isolated.State == "isolated" })
			if !isolated.Isolated || isolated.InRotation || isolated.Why == "" || isolated.NextTrial.IsZero() || !isolated.Stats.DownSince.IsZero() {
				t.Errorf("%+v", isolated)
			}
			before, others := answered[1].Load(), answered[0].Load()+answered[2].Load()
			testkit.Eventually(t, "others serve", func() bool { return answered[0].Load()+answered[2].Load() > others+100 })
			if n := answered[1].Load() - before; n > 60 { // those of trials
				t.Errorf("%d of 100 more requests are its", n)
			}
			ill.Store(false)
			testkit.Eventually(t, "it is back", func() bool { m := member(); return m.State == "ready" && m.InRotation })
			for _, want := range []string{"kind=member-isolated host=" + hosts[1], "kind=member-trial host=" + hosts[1], "kind=member-back host=" + hosts[1]} {
				testkit.Eventually(t, want+" is logged", func() bool { return strings.Contains(log.String(), want) })
			}
		})
	}
}

// traffic requests from several goroutines until the test ends.
func traffic(t *testing.T, c *httpclient.Client) {
	t.Helper()
	var wg sync.WaitGroup
	var over atomic.Bool
	for range 16 {
		wg.Go(func() {
			for !over.Load() {
				_, _ = get(t.Context(), c, service)
				<-time.After(2 * time.Millisecond)
			}
		})
	}
	t.Cleanup(func() { over.Store(true); wg.Wait() })
}

// However bad all hosts are, requests have somewhere to go; and a host alone is never isolated.
func TestTheLastHostIsNeverIsolated(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	cfg := httpclient.Config{Name: "billing", BaseURL: service, Hosts: f.hosts, Isolation: isolating(), FailFastAfter: short, Logger: testkit.Silent()}
	c := started(t, cfg)
	for range 300 {
		if _, err := get(t.Context(), c, service); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Millisecond)
	}
	if in := serving(c); in != 2 {
		t.Errorf("%d of 2 equally bad hosts serve", in)
	}
	f.proxies[0].Refuse(t, true)
	c.Reset()
	testkit.Eventually(t, "one host is down", func() bool {
		_, err := get(t.Context(), c, service)
		return err == nil && c.Stats().Members[0].State == "down"
	})
	if in := serving(c); in != 1 {
		t.Errorf("%d hosts serve", in)
	}
	cfg.Isolation = poolkeeper.Isolation{}
	if err := c.Reload(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if _, err := get(t.Context(), c, service); err != nil || c.Stats().Members[1].HasScore {
		t.Errorf("off: %v, %+v", err, c.Stats().Members[1])
	}
}

func serving(c *httpclient.Client) (n int) {
	for _, m := range c.Stats().Members {
		if m.InRotation {
			n++
		}
	}
	return n
}

func TestIsolationNeedsHosts(t *testing.T) {
	t.Parallel()
	err := httpclient.Config{BaseURL: service, Isolation: poolkeeper.Isolation{MinScore: 101, MinServing: -1}}.Validate()
	for _, want := range []string{"Isolation is given without Hosts", "Isolation.MinScore is 101", "Isolation.MinServing is -1"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %s in %v", want, err)
		}
	}
}

func TestSettingsTellHowHostsAreIsolated(t *testing.T) {
	t.Parallel()
	cfg := httpclient.Config{Name: "billing", BaseURL: service, Hosts: []string{"127.0.0.1:1", "127.0.0.1:2"}, Logger: testkit.Silent()}
	for want, c := range map[string]poolkeeper.Isolation{
		"isolation=off": {},
		"isolation=[min_score=75 after=300ms retry=200ms max_retry=5m0s trial_share=0.2 min_serving=1]": isolating(),
	} {
		cfg.Isolation = c
		client, err := httpclient.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(client.Settings()); !strings.Contains(got, want) {
			t.Errorf("no %s in %s", want, got)
		}
		if err := client.Abort(); err != nil {
			t.Error(err)
		}
	}
}
