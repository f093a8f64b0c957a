package health_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/poolkeeper/poolkeeper/health"
)

// outage is a service in trouble: postgres refuses connections, the orders API depends on it, the
// cache is slow, search has not answered yet, and one check is fine.
func outage(t *testing.T) *health.Monitor {
	t.Helper()
	m := health.New(health.Config{Interval: time.Second, RetryInterval: time.Second})
	refused := func(context.Context) error { return refusedError{} }
	register(t, m, health.Check{Name: "postgres", Probe: refused, Groups: []string{health.GroupReady, "billing"}})
	register(t, m, health.Check{Name: "orders API", Probe: refused, DependsOn: []string{"postgres"}})
	register(t, m, health.Check{Name: "cache", Probe: func(context.Context) error {
		return health.Degraded(errors.New("answers in 300ms"))
	}})
	register(t, m, health.Check{Name: "search", Probe: func(context.Context) error { return nil }, InitialDelay: time.Hour, Impact: health.ImpactDegrading})
	register(t, m, health.Check{Name: "disk", Probe: func(context.Context) error { return nil }, Groups: []string{health.GroupReady, health.GroupStartup}})
	start(t, m)
	settle()
	return m
}

// refusedError is what a driver's error looks like once its package has classified it.
type refusedError struct{}

func (refusedError) Error() string {
	return "dial postgres://admin:hunter2@10.0.0.7:5432: connection refused"
}

func (refusedError) HealthFault() health.Fault {
	return health.Fault{Kind: health.KindRefused, Advice: "is the server up?"}
}

func TestStatusCodesOfEveryPath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := outage(t)
		h := health.Handler(m)
		for path, want := range map[string]int{
			"/livez": 200, "/livez/": 200, "/readyz": 503, "/readyz/": 503, "/startupz": 200,
			"/readyz/postgres": 503, "/readyz/cache": 200, "/readyz/disk": 200, "/readyz/search": 503,
			"/readyz/orders%20API": 503, "/readyz/orders%20API/": 503, "/readyz/nobody": 404,
			"/startupz/disk": 200, "/startupz/postgres": 404,
			"/livez/health%20scheduler": 200, "/livez/postgres": 404,
			"/groupz/billing": 503, "/groupz/billing/postgres": 503, "/groupz/billing/disk": 404, "/groupz/ready": 503,
			"/groupz/nobody": 404, "/groupz/": 404, "/groupz": 404, "/": 404, "*": 404, "/healthz": 404, "/readyzz": 404,
			// A query says what to leave out.
			"/readyz?exclude=postgres":                          503,
			"/readyz?exclude=postgres&exclude=orders+API":       200,
			"/readyz?exclude=nobody":                            503,
			"/readyz/disk?exclude=disk":                         200,
			"/readyz?" + strings.Repeat("x", health.MaxQuery):   503,
			"/readyz?" + strings.Repeat("x", health.MaxQuery+1): 414,
		} {
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				w := request(h, method, path)
				if w.Code != want {
					t.Errorf("%s %.40s: %d, want %d", method, path, w.Code, want)
				}
				if got := w.Header().Get("Cache-Control"); got != "no-store" {
					t.Errorf("%s %.40s: Cache-Control %q", method, path, got)
				}
				if w.Header().Get("Content-Type") == "" {
					t.Errorf("%s %.40s: no Content-Type", method, path)
				}
				if empty := w.Body.Len() == 0; empty != (method == http.MethodHead) {
					t.Errorf("%s %.40s: body of %d bytes", method, path, w.Body.Len())
				}
			}
		}
		for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions} {
			if w := request(h, method, "/readyz"); w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, HEAD" {
				t.Errorf("%s: %d, Allow %q", method, w.Code, w.Header().Get("Allow"))
			}
		}
	})
}

// INV-12, and: a client that is not admitted sees no more than a status, whatever it asks for.
func TestNothingButTheStatusWithoutPermission(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := outage(t)
		hidden := map[string]http.Handler{
			"without WithDetails": health.Handler(m),
			"refused":             health.Handler(m, health.WithDetails(func(*http.Request) bool { return false })),
			"mounted singly":      health.GroupHandler(m, health.GroupReady),
		}
		for name, h := range hidden {
			for _, path := range []string{
				"/readyz", "/readyz?verbose", "/readyz?verbose=1&exclude=disk", "/readyz/postgres", "/readyz/postgres?verbose",
				"/groupz/billing?verbose", "/livez?verbose", "/startupz?verbose",
			} {
				for _, accept := range []string{"", "application/json", "application/health+json"} {
					body := get(h, path, "Accept", accept).Body.String()
					if name != "refused" && strings.Contains(path, "verbose") {
						body = withoutHint(t, body)
					}
					switch body {
					case "ok\n", "fail\n", `{"status":"pass"}` + "\n", `{"status":"fail"}` + "\n":
					default:
						t.Errorf("%s, %s, Accept %q: %q", name, path, accept, body)
					}
				}
			}
		}
	})
}

// withoutHint takes out what a handler without WithDetails says to ?verbose.
func withoutHint(t *testing.T, body string) string {
	t.Helper()
	const hint = "?verbose needs health.WithDetails where this handler is made"
	if strings.Count(body, hint) != 1 {
		t.Errorf("no hint in %q", body)
	}
	body = strings.Replace(body, "warning: "+hint+"\n", "", 1)
	return strings.Replace(body, `,"notes":["`+hint+`"]`, "", 1)
}

func TestDetailsAreShownToWhomIsAdmitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := outage(t)
		asked := 0
		h := health.Handler(m, health.WithDetails(func(r *http.Request) bool {
			asked++
			return r.Header.Get("Authorization") == "let me in"
		}))
		if body := get(h, "/readyz").Body.String(); body != "fail\n" {
			t.Errorf("without permission: %q", body)
		}
		const want = `ready fail since 2000-01-01T00:00:00Z: orders API is down because of postgres: dial postgres://***@10.0.0.7:5432: connection refused (refused)
    is the server up?
[!] cache warn since 2000-01-01T00:00:00Z: answers in 300ms
[+] disk pass since 2000-01-01T00:00:00Z
[-] orders API fail since 2000-01-01T00:00:00Z, caused by postgres: dial postgres://***@10.0.0.7:5432: connection refused (refused)
[-] postgres fail since 2000-01-01T00:00:00Z: dial postgres://***@10.0.0.7:5432: connection refused (refused)
[?] search unknown since 2000-01-01T00:00:00Z, impact degrading: no result yet
`
		for range 2 { // the second comes from the page that was kept
			if body := get(h, "/readyz", "Authorization", "let me in").Body.String(); body != want {
				t.Errorf("got\n%s\nwant\n%s", body, want)
			}
		}
		asked = 0
		get(h, "/livez")
		get(h, "/startupz/disk")
		if asked != 0 {
			t.Error("permission was asked for although there was nothing to show")
		}
		if body := get(h, "/startupz?verbose", "Authorization", "let me in").Body.String(); !strings.Contains(body, "[+] disk pass") {
			t.Errorf("verbose: %q", body)
		}
		one := get(h, "/readyz/postgres", "Authorization", "let me in").Body.String()
		if !strings.HasPrefix(one, "[-] postgres fail since ") || !strings.HasSuffix(one, "\n    is the server up?\n") {
			t.Errorf("one check: %q", one)
		}
		excluded := get(h, "/readyz?verbose&exclude=postgres&exclude=orders+API&exclude=nobody", "Authorization", "let me in")
		if body := excluded.Body.String(); excluded.Code != 200 || !strings.HasPrefix(body, "ready warn: search: no result yet") ||
			strings.Contains(body, "postgres") || !strings.Contains(body, `warning: cannot exclude "nobody": no such check`) {
			t.Errorf("with some excluded: %d %q", excluded.Code, body)
		}
		live := get(h, "/livez?verbose", "Authorization", "let me in").Body.String()
		if !strings.Contains(live, "[+] health scheduler pass\n") {
			t.Errorf("live: %q", live)
		}
	})
}

// An exclusion that does nothing is a mistake in a manifest. The page warns about it, as Kubernetes
// does.
func TestUnknownExclusionIsAWarning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := outage(t)
		w := get(health.Handler(m), "/startupz?exclude=nob%0Aody")
		if w.Code != 200 || w.Body.String() != "ok\n"+`warning: cannot exclude "nob\nody": no such check`+"\n" {
			t.Errorf("text: %d %q", w.Code, w.Body.String())
		}
		w = get(health.Handler(m), "/startupz?exclude="+strings.Repeat("n", 3000))
		if w.Code != 200 || w.Body.Len() > 300 {
			t.Errorf("a long name: %d, %d bytes", w.Code, w.Body.Len())
		}
		w = get(health.Handler(m), "/startupz?exclude=<b>", "Accept", "application/json")
		if w.Code != 200 || w.Body.String() != `{"status":"pass","notes":["cannot exclude \"<b>\": no such check"]}`+"\n" ||
			w.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("JSON: %d %q", w.Code, w.Body.String())
		}
	})
}

func TestJSONPage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := outage(t)
		h := health.Handler(m, health.WithDetails(everybody))
		for _, accept := range []string{"application/json", "application/health+json"} {
			w := get(h, "/readyz", "Accept", accept)
			if got := w.Header().Get("Content-Type"); got != "application/health+json" {
				t.Errorf("Content-Type %q", got)
			}
			var doc struct {
				Status, Group, Since, Output, Advice string
				Checks                               map[string][]struct {
					Status, State, Impact, Since, Output, Kind, Advice string
					CausedBy                                           []string `json:"caused_by"`
				}
			}
			dec := json.NewDecoder(w.Body)
			dec.DisallowUnknownFields()
			if err := dec.Decode(&doc); err != nil {
				t.Fatal(err)
			}
			if doc.Status != "fail" || doc.Group != "ready" || doc.Since != "2000-01-01T00:00:00Z" || doc.Advice != "is the server up?" ||
				!strings.HasPrefix(doc.Output, "orders API is down because of postgres: ") {
				t.Errorf("%+v", doc)
			}
			got := fmt.Sprintf("%+v", doc.Checks["orders API"])
			if got != "[{Status:fail State: Impact:critical Since:2000-01-01T00:00:00Z "+
				"Output:dial postgres://***@10.0.0.7:5432: connection refused Kind:refused Advice:is the server up? CausedBy:[postgres]}]" {
				t.Errorf("orders API: %s", got)
			}
			if s := doc.Checks["search"][0]; s.Status != "fail" || s.State != "unknown" || s.Impact != "degrading" {
				t.Errorf("search: %+v", s)
			}
			if len(doc.Checks) != 5 {
				t.Errorf("%d checks", len(doc.Checks))
			}
		}
	})
}

func TestHeldAndDrainingAreSaidOnThePage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := health.New(health.Config{})
		h := health.Handler(m, health.WithDetails(everybody))
		want := func(path, want string) {
			t.Helper()
			if got := get(h, path, "Accept", "application/json").Body.String(); got != want+"\n" {
				t.Errorf("%s: %s, want %s", path, got, want)
			}
		}
		const at = `"2000-01-01T00:00:00Z"`
		want("/readyz", `{"status":"fail","group":"ready","since":`+at+`,"output":"not started"}`)
		start(t, m)
		release := m.Hold("starting")
		want("/readyz", `{"status":"fail","group":"ready","since":`+at+`,"output":"held: starting","holds":[{"reason":"starting","since":`+at+`}]}`)
		if got := get(h, "/readyz").Body.String(); got != "ready fail since 2000-01-01T00:00:00Z: held: starting\n[-] held since 2000-01-01T00:00:00Z: starting\n" {
			t.Errorf("text: %q", got)
		}
		release()
		want("/readyz", `{"status":"pass"}`)
		m.SetDraining()
		want("/readyz", `{"status":"fail","group":"ready","since":`+at+`,"output":"draining","draining":true}`)
		want("/livez", `{"status":"pass"}`)
	})
}

// A status is a word in JSON, whatever prints it.
func TestStatusPrintsItsName(t *testing.T) {
	for s, want := range map[health.Status]string{
		health.StatusUnknown: `"unknown"`, health.StatusPass: `"pass"`, health.StatusWarn: `"warn"`, health.StatusFail: `"fail"`,
	} {
		if got, err := json.Marshal(s); err != nil || string(got) != want {
			t.Errorf("%s %v", got, err)
		}
	}
	if _, ok := health.New(health.Config{}).Report().Check("nobody"); ok {
		t.Error("a check that is not there is found")
	}
	if _, ok := health.New(health.Config{}).Report().Group("nobody"); ok {
		t.Error("a group that is not there is found")
	}
}

func TestHandlersMountOnAnyRouter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := outage(t)
		mux := http.NewServeMux()
		mux.Handle("GET /alive", health.GroupHandler(m, health.GroupLive))
		mux.Handle("GET /alive/{check...}", health.GroupHandler(m, health.GroupLive))
		mux.Handle("GET /ready", health.GroupHandler(m, health.GroupReady))
		mux.Handle("GET /ready/{check...}", health.GroupHandler(m, health.GroupReady))
		mux.Handle("GET /started/{check...}", health.GroupHandler(m, health.GroupStartup))
		mux.Handle("GET /billing/{check...}", health.GroupHandler(m, "billing"))
		mux.Handle("GET /nobody", health.GroupHandler(m, "nobody"))
		mux.Handle("/ops/", http.StripPrefix("/ops", health.Handler(m)))
		for path, want := range map[string]int{
			"/alive": 200, "/alive/health%20scheduler": 200, "/ready": 503, "/ready/disk": 200, "/ready/nobody": 404,
			"/ready?exclude=postgres&exclude=orders%20API": 200,
			"/started/": 200, "/started/disk": 200, "/billing/": 503, "/billing/postgres": 503, "/billing/disk": 404,
			"/nobody": 404, "/ops/readyz": 503, "/ops/livez": 200,
		} {
			if w := get(mux, path); w.Code != want {
				t.Errorf("%s: %d, want %d", path, w.Code, want)
			}
		}
	})
}

// INV-4: the usual request allocates nothing, for any status and any number of checks.
func TestProbeAllocatesNothing(t *testing.T) {
	sick := health.New(health.Config{})
	monitors := map[string]*health.Monitor{"one check": startedMonitor(t, 1), "a thousand": startedMonitor(t, 1000), "failing": sick}
	for name, m := range monitors {
		h := health.Handler(m)
		for _, path := range []string{"/readyz", "/livez", "/startupz"} {
			for _, r := range []*http.Request{bareRequest(path), kubeletRequest(path)} {
				w := &nullWriter{header: http.Header{}}
				if n := testing.AllocsPerRun(100, func() { h.ServeHTTP(w, r) }); n != 0 {
					t.Errorf("%s, %s: %v allocations", name, path, n)
				}
			}
		}
	}
}

// INV-4: a page is made from verdicts. No request runs a check, whatever its parameters.
func TestAskingRunsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := health.New(health.Config{Interval: rarely})
		var db script
		register(t, m, health.Check{Name: "db", Probe: db.probe})
		start(t, m)
		settle()
		h := health.Handler(m, health.WithDetails(everybody))
		for _, path := range []string{"/readyz", "/readyz?verbose", "/readyz/db", "/readyz?exclude=db", "/livez?verbose"} {
			for range 100 {
				get(h, path)
			}
		}
		m.Report()
		settle()
		if n := db.runs(); n != 1 {
			t.Errorf("%d runs", n)
		}
	})
}

// The page a client gets from a real server: a HEAD has the headers of the GET, and no body.
func TestOverARealServer(t *testing.T) {
	m := startedMonitor(t, 3)
	s := httptest.NewServer(health.Handler(m))
	defer s.Close()
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		req, err := http.NewRequestWithContext(t.Context(), method, s.URL+"/readyz", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := s.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK || resp.Header.Get("Cache-Control") != "no-store" ||
			resp.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
			t.Errorf("%s: %d %v", method, resp.StatusCode, resp.Header)
		}
	}
}

// FuzzProbe asks for anything: the answer is always one of a few statuses, in one of two types,
// and tells nothing to whom is not admitted.
func FuzzProbe(f *testing.F) {
	for _, s := range [][3]string{
		{"/readyz", "", ""},
		{"/readyz", "verbose&exclude=postgres&exclude=%zz", "application/json;q=0.5, text/*;q=0.1"},
		{"/groupz/billing/postgres", "verbose=0", "application/health+json"},
		{"/livez/x", "exclude=" + strings.Repeat("a", 300), ";q=,/;;,*"},
		{"//readyz/", "&&=&verbose=%00", "*/*;q=1.0000"},
	} {
		f.Add(s[0], s[1], s[2])
	}
	m := health.New(health.Config{})
	if _, err := m.Register(health.Check{Name: "postgres", Groups: []string{health.GroupReady, "billing"}, Probe: func(context.Context) error {
		return refusedError{}
	}}); err != nil {
		f.Fatal(err)
	}
	if err := m.Start(f.Context()); err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { stop(f, m) })
	for end := time.Now().Add(30 * time.Second); ; {
		if c, _ := m.Report().Check("postgres"); c.Status == health.StatusFail {
			break
		}
		if time.Now().After(end) {
			f.Fatal("no result")
		}
		<-time.After(time.Millisecond)
	}
	hidden, open := health.Handler(m), health.Handler(m, health.WithDetails(everybody))
	f.Fuzz(func(t *testing.T, path, query, accept string) {
		for _, h := range []http.Handler{hidden, open} {
			r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
			r.URL.Path, r.URL.RawQuery = path, query
			r.Header.Set("Accept", accept)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			body := w.Body.String()
			switch w.Code {
			case 200, 404, 414, 503:
			default:
				t.Fatalf("status %d", w.Code)
			}
			switch typ := w.Header().Get("Content-Type"); typ {
			case "text/plain; charset=utf-8":
			case "application/health+json":
				if !json.Valid([]byte(body)) {
					t.Fatalf("not JSON: %q", body)
				}
			default:
				t.Fatalf("Content-Type %q", typ)
			}
			if strings.Contains(body, "hunter2") {
				t.Fatalf("a secret: %q", body)
			}
			if h == hidden && (strings.Contains(body, "10.0.0.7") || strings.Contains(body, "since")) && !strings.Contains(query, "since") {
				t.Fatalf("details without permission: %q", body)
			}
			if w.Code == 200 && path == "/readyz" && !strings.Contains(query, "exclude") {
				t.Fatalf("ready with a failed check: %q", query)
			}
		}
	})
}
