package httpclient_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/httpclient"
	"github.com/poolkeeper/poolkeeper/internal/test/testcerts"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
)

const service = "http://billing.example"

// fleet is equivalent servers.
type fleet struct {
	hosts    []string
	answered []atomic.Int64
	proxies  []*testkit.Proxy // before the servers
}

func newFleet(t *testing.T, n int, h http.HandlerFunc) *fleet {
	t.Helper()
	f := &fleet{answered: make([]atomic.Int64, n)}
	for i := range n {
		srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
			f.answered[i].Add(1)
			h(w, r)
		})
		px := testkit.NewProxy(t, srv.Listener.Addr().String())
		f.proxies, f.hosts = append(f.proxies, px), append(f.hosts, px.Addr())
	}
	return f
}

func saysHost(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	_, _ = io.WriteString(w, r.Host)
}

func TestRequestsTakeTurnsAndKeepTheNameOfTheService(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3, saysHost)
	c := started(t, httpclient.Config{Name: "billing", BaseURL: service, Hosts: f.hosts, MaxOpen: 4})
	for range 30 {
		if body, err := get(t.Context(), c, service); err != nil || body != "billing.example" {
			t.Fatalf("%q, %v", body, err)
		}
	}
	s := c.Stats()
	if len(s.Members) != 3 || s.Max != 12 || s.Acquired != 30 {
		t.Fatalf("%+v", s)
	}
	for i, m := range s.Members {
		if n := f.answered[i].Load(); n != 10 || m.Name != f.hosts[i] || m.State != "ready" || !m.InRotation || m.Stats.Acquired != 10 {
			t.Errorf("host %d answered %d: %+v", i, n, m)
		}
	}
	for _, url := range []string{"http://" + f.hosts[0], "http://other.example"} { // it is pinned to the name
		if _, err := get(t.Context(), c, url); !errors.As(err, new(*httpclient.HostError)) {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestTLSVerifiesTheNameOfTheServiceOnEachHost(t *testing.T) {
	t.Parallel()
	ca := testcerts.New(t)
	var hosts []string
	for _, name := range []string{"billing.example", "billing.example", "other.example"} {
		srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, r.Proto+" "+r.TLS.ServerName)
		}))
		srv.EnableHTTP2 = true
		srv.TLS = &tls.Config{Certificates: []tls.Certificate{ca.Pair(t, name)}}
		srv.StartTLS()
		t.Cleanup(srv.Close)
		hosts = append(hosts, srv.Listener.Addr().String())
	}
	c := started(t, httpclient.Config{BaseURL: "https://billing.example", Hosts: hosts, TLS: &tls.Config{RootCAs: ca.Pool()}})
	for range 30 { // the third one's handshake fails, and the next host is asked
		if body, err := get(t.Context(), c, "https://billing.example"); err != nil || body != "HTTP/2.0 billing.example" {
			t.Fatalf("%q, %v", body, err)
		}
	}
	s := c.Stats()
	if s.Members[0].Stats.Dials != 2 || // of Start, and of all requests
		s.Members[2].Stats.Acquired != 0 || s.Members[0].Stats.Acquired+s.Members[1].Stats.Acquired != 30 {
		t.Errorf("%+v", s.Members)
	}
	if err := c.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "host "+hosts[2]+": ") || strings.Contains(err.Error(), hosts[0]) {
		t.Errorf("Check: %v", err)
	}
}

func TestHostThatIsDownIsSkippedAndNoRequestFails(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3, saysHost)
	var log testkit.Log
	c := started(t, httpclient.Config{Name: "billing", BaseURL: service, Hosts: f.hosts, FailFastAfter: short, Logger: log.Logger()})
	ask := func() error { _, err := get(t.Context(), c, service); return err }
	post := func() error {
		resp, err := c.HTTP().Post(service, "text/plain", strings.NewReader("x"))
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		return errors.Join(err, resp.Body.Close())
	}
	f.proxies[1].Refuse(t, true)
	c.Reset() // connections that are open do not know
	for range 100 {
		if err := errors.Join(ask(), post()); err != nil {
			t.Fatal(err)
		}
	}
	testkit.Eventually(t, "the host is known to be down", func() bool {
		m := c.Stats().Members[1]
		return ask() == nil && m.State == "down" && !m.InRotation && !m.Stats.DownSince.IsZero()
	})
	if s := c.Stats(); !s.DownSince.IsZero() || s.Refused != 0 || s.Waiting != 0 {
		t.Errorf("the client is down, or refuses: %+v", s)
	}
	testkit.Eventually(t, "it is logged", func() bool { return strings.Contains(log.String(), "kind=member-lost host="+f.hosts[1]) })
	if strings.Contains(log.String(), "kind=down") {
		t.Errorf("log: %s", log.String())
	}
	f.proxies[0].Refuse(t, true)
	f.proxies[2].Refuse(t, true)
	c.Reset()
	var down *poolkeeper.DownError
	testkit.Eventually(t, "requests fail at once when all hosts are down", func() bool { return errors.As(ask(), &down) && down.Pool == "billing" })
	if s := c.Stats(); s.DownSince.IsZero() || s.Waiting != 0 {
		t.Errorf("%+v", s)
	}
	f.proxies[1].Refuse(t, false)
	testkit.Eventually(t, "one host is enough", func() bool { return ask() == nil })
	for _, want := range []string{"kind=down", "kind=member-back host=" + f.hosts[1], "kind=up"} {
		testkit.Eventually(t, want+" is logged", func() bool { return strings.Contains(log.String(), want) })
	}
}

// A request that waits for a host which turns out to be down goes to another one.
func TestRequestsThatWaitForASilentHostMove(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2, saysHost)
	var silent atomic.Bool
	var dialer net.Dialer
	c := started(t, httpclient.Config{
		Name: "billing", BaseURL: service, Hosts: f.hosts, FailFastAfter: short, AcquireTimeout: time.Minute, DialTimeout: time.Minute,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if silent.Load() && addr == f.hosts[0] {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return dialer.DialContext(ctx, network, addr)
		},
	})
	silent.Store(true)
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if _, err := get(t.Context(), c, service); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestHostsAreAddedAndRemovedWhileRequestsRun(t *testing.T) {
	t.Parallel()
	entered, release := make(chan struct{}, 9), make(chan struct{})
	f := newFleet(t, 3, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			entered <- struct{}{}
			<-release
		}
		saysHost(w, r)
	})
	cfg := httpclient.Config{Name: "billing", BaseURL: service, Hosts: f.hosts[:2], Logger: testkit.Silent()}
	c := started(t, cfg)
	errs := make(chan error, 2)
	for range 2 { // one on each host
		go func() { _, err := get(t.Context(), c, service+"/slow"); errs <- err }()
		<-entered
	}
	cfg.Hosts = []string{f.hosts[1], f.hosts[2]}
	if changes, err := c.Plan(cfg); err != nil || len(changes) != 1 || changes[0].Field != "Hosts" {
		t.Fatalf("%v, %v", changes, err)
	}
	if err := c.Reload(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	before := f.answered[0].Load()
	for range 10 {
		if _, err := get(t.Context(), c, service); err != nil {
			t.Fatal(err)
		}
	}
	if f.answered[0].Load() != before || f.answered[2].Load() != 5 {
		t.Errorf("the removed host answered %d more, the added one %d", f.answered[0].Load()-before, f.answered[2].Load())
	}
	if s := c.Stats(); len(s.Members) != 2 || s.InUse != 2 || s.Acquired != 12 {
		t.Errorf("%+v", s)
	}
	close(release)
	for range 2 {
		if err := <-errs; err != nil {
			t.Errorf("a request in flight: %v", err)
		}
	}
	testkit.Eventually(t, "the removed host's connection is closed", func() bool { return c.Stats().Open <= 2 })
	bad := cfg
	bad.Hosts = []string{f.hosts[1], testkit.FreeAddr(t)}
	if err := c.Reload(t.Context(), bad); err == nil || !strings.Contains(err.Error(), "host "+bad.Hosts[1]) {
		t.Errorf("a host that does not answer: %v", err)
	}
	cfg.Hosts = f.hosts // and back again, several times: counters only grow
	for range 3 {
		cfg.Hosts = f.hosts[:1]
		if err := c.Reload(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		cfg.Hosts = f.hosts
		if err := c.Reload(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
	}
	if s := c.Stats(); s.Acquired != 12 || s.Max != 300 || s.Use.Count != 12 {
		t.Errorf("after reloads: %d acquired, max %d, %d used", s.Acquired, s.Max, s.Use.Count)
	}
	if err := c.Stop(t.Context()); err != nil || c.Stats().Open != 0 {
		t.Errorf("%v, %d open", err, c.Stats().Open)
	}
}

// MaxWaiting holds for each host: a request is refused when all are full.
func TestFullHostIsSkipped(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	f := newFleet(t, 2, func(http.ResponseWriter, *http.Request) { <-hang })
	c := started(t, httpclient.Config{Name: "billing", BaseURL: service, Hosts: f.hosts, MaxOpen: 1, MaxWaiting: poolkeeper.NoWaiting})
	var wg sync.WaitGroup
	for i := range 2 {
		wg.Go(func() { _, _ = get(t.Context(), c, service) })
		testkit.Eventually(t, "it is in flight", func() bool { return c.Stats().InUse == i+1 })
	}
	if _, err := get(t.Context(), c, service); !errors.Is(err, poolkeeper.ErrTooManyWaiting) || !strings.Contains(err.Error(), `"billing/127.0.0.1:`) {
		t.Errorf("%v", err)
	}
	close(hang)
	wg.Wait()
	testkit.Eventually(t, "nothing waits", func() bool { s := c.Stats(); return s.Waiting == 0 && s.InUse == 0 })
}

func TestEachHostIsValidated(t *testing.T) {
	t.Parallel()
	err := httpclient.Config{
		BaseURL: service, Proxy: http.ProxyFromEnvironment,
		Hosts: []string{"a", "a:0", "a:http", "http://a:1", "a:1/x", "user:s3cret@a:1", ":80", "A:80", "a:80", "[::1]:80", "b:99999"},
	}.Validate()
	if err == nil {
		t.Fatal("it is accepted")
	}
	for _, want := range []string{
		`Hosts and Proxy are given`, `Hosts[0] is "a"; it must be like`, `Hosts[1] is "a:0"; its port must be 1 to 65535`, `Hosts[2] is "a:http"; its port`,
		`Hosts[3] is "http://a:1"`, `Hosts[4] is "a:1/x"`, `Hosts[5] has a user`, `Hosts[6] is ":80"`, `Hosts[8] is "a:80", which is given twice`,
		`Hosts[10] is "b:99999"`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %s in\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "Hosts[7]") || strings.Contains(err.Error(), "Hosts[9]") {
		t.Errorf("%v", err)
	}
	if err := (httpclient.Config{Hosts: []string{"a:1"}}).Validate(); err == nil || !strings.Contains(err.Error(), "Hosts are given without BaseURL") {
		t.Errorf("%v", err)
	}
}

func TestStormOfSeveralHostsLeavesNothingCounted(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3, misbehaves)
	cfg := httpclient.Config{
		BaseURL: service, Hosts: f.hosts, MaxOpen: 2, MaxWaiting: 8, AcquireTimeout: 10 * time.Millisecond, HeaderTimeout: 3 * time.Millisecond,
		RequestTimeout: 20 * time.Millisecond, FailFastAfter: 10 * time.Millisecond, Logger: testkit.Silent(),
	}
	c := started(t, cfg)
	var wg sync.WaitGroup
	wg.Go(func() { storm(t, c, service) })
	wg.Go(func() {
		for i := range 20 {
			f.proxies[i/2%3].Refuse(t, i%2 == 0)
			next := cfg
			next.Hosts = f.hosts[i%2:]
			_ = c.Reload(t.Context(), next)
			<-time.After(5 * time.Millisecond)
		}
	})
	wg.Wait()
	testkit.Eventually(t, "nothing is left", func() bool {
		s := c.Stats()
		return s.Waiting == 0 && s.InUse == 0 && s.Dialing == 0 && len(c.Holders()) == 0
	})
	testkit.Eventually(t, "it works", func() bool { _, err := get(t.Context(), c, service); return err == nil })
	if err := c.Stop(t.Context()); err != nil || c.Stats().Open != 0 {
		t.Errorf("%v, %d open", err, c.Stats().Open)
	}
}
