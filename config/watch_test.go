package config_test

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/config"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/httpclient"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/lifecycle"
)

const (
	every = 5 * time.Second
	soak  = 30 * time.Second
)

// pipes is a server that speaks HTTP over pipes, so that its clients work in a bubble.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	if strings.HasPrefix(addr, "nowhere") {
		return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	}
	if strings.HasPrefix(addr, "silent") {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	mine, theirs := net.Pipe()
	select {
	case p.conns <- theirs:
		return mine, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// rig is a service with two HTTP clients, whose file is watched.
type rig struct {
	path    string
	file    *config.File
	reg     *lifecycle.Registry
	watcher *config.Watcher
	log     testkit.Log
	hold    atomic.Int64 // how long a response takes, in ns

	mu     sync.Mutex
	events []poolkeeper.Event
}

const (
	small = "http: {one: {base_url: 'http://one', max_open: 20}, two: {base_url: 'http://two', max_open: 20}}\nhealth: {interval: 1s}\n"
	large = "http: {one: {base_url: 'http://one', max_open: 30}, two: {base_url: 'http://two', max_open: 40}}\nhealth: {interval: 1s}\n"
	tiny  = "http: {one: {base_url: 'http://one', max_open: 30}, two: {base_url: 'http://two', max_open: 1}}\nhealth: {interval: 1s}\n"
)

func newRig(t *testing.T, opts ...config.WatchOption) *rig {
	t.Helper()
	return newRigAt(t, write(t, small), opts...)
}

func newRigAt(t *testing.T, path string, opts ...config.WatchOption) *rig {
	t.Helper()
	r := &rig{path: path}
	server := newPipes()
	srv := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { time.Sleep(time.Duration(r.hold.Load())) })}
	served := make(chan struct{})
	go func() { _ = srv.Serve(server); close(served) }()
	dial := func(c *httpclient.Config) { c.DialContext = server.dial }
	f, err := config.Load(r.path, config.Logger(r.log.Logger()), config.With("one", dial), config.With("two", dial))
	if err != nil {
		t.Fatal(err)
	}
	r.file = f
	lc := f.Lifecycle()
	lc.Logger = testkit.Silent()
	r.reg = lifecycle.New(lc)
	if err := f.AddTo(r.reg); err != nil {
		t.Fatal(err)
	}
	r.watcher = config.Watch(f, append([]config.WatchOption{config.Every(every), config.Soak(soak)}, opts...)...)
	r.watcher.Subscribe(func(e poolkeeper.Event) { r.mu.Lock(); r.events = append(r.events, e); r.mu.Unlock() })
	r.reg.Add("config", r.watcher)
	if err := r.reg.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.reg.Shutdown(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
		_ = srv.Close()
		<-served
	})
	return r
}

func (r *rig) replace(t *testing.T, text string) {
	t.Helper()
	testkit.Replace(t, r.path, []byte(text))
}

// maxOpen is that in effect.
func (r *rig) maxOpen(t *testing.T, name string) string {
	t.Helper()
	c, err := r.file.HTTP(name)
	if err != nil {
		t.Fatal(err)
	}
	return setting(t, c, "max_open")
}

func (r *rig) expect(t *testing.T, one, two, phase string) {
	t.Helper()
	synctest.Wait()
	if a, b, s := r.maxOpen(t, "one"), r.maxOpen(t, "two"), r.watcher.State(); a != one || b != two || s.Phase != phase {
		t.Errorf("max_open is %s and %s, phase %s (%v); want %s, %s and %s\n%s", a, b, s.Phase, s.Err, one, two, phase, r.log.String())
	}
}

// use sends requests by the second client until stop is called, and returns how many failed.
func (r *rig) use(t *testing.T, callers int) (stop func() int) {
	t.Helper()
	client, err := r.file.HTTP("two")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var mu sync.Mutex
	failed := 0
	for range callers {
		wg.Go(func() {
			for ctx.Err() == nil {
				req, _ := http.NewRequestWithContext(context.WithoutCancel(ctx), http.MethodGet, "http://two/", nil)
				resp, err := client.HTTP().Do(req)
				if err != nil {
					mu.Lock()
					failed++
					mu.Unlock()
					continue
				}
				_ = resp.Body.Close()
			}
		})
	}
	return func() int { cancel(); wg.Wait(); return failed }
}

func TestAChangeIsKeptAfterSoak(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.replace(t, large)
		time.Sleep(every + time.Second)
		r.expect(t, "20", "20", "watching") // seen once
		time.Sleep(every)
		r.expect(t, "30", "40", "soaking")
		time.Sleep(soak)
		r.expect(t, "30", "40", "watching")
		if s := r.watcher.State(); s.Applied != 1 || s.Err != nil {
			t.Errorf("%+v", s)
		}
		r.replace(t, "# only a comment\n"+large)
		time.Sleep(soak)
		if s := r.watcher.State(); s.Applied != 1 || len(r.events) != 1 || r.events[0].Kind != poolkeeper.EventReloaded {
			t.Errorf("%+v, %v", s, r.events)
		}
	})
}

// Pool "two" gets a size at which its callers wait for each other. Both pools get their old sizes
// back.
func TestABadSizeIsRolledBackWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.hold.Store(int64(20 * time.Millisecond))
		stop := r.use(t, 20)
		time.Sleep(2 * soak)
		r.replace(t, tiny)
		time.Sleep(2*every + soak)
		r.expect(t, "20", "20", "refused")
		s := r.watcher.State()
		if s.RolledBack != 1 || s.Err == nil || !strings.Contains(s.Err.Error(), "since the change, http.two: ") {
			t.Errorf("%+v", s)
		}
		if n := stop(); n > 0 {
			t.Errorf("%d requests failed", n)
		}
		time.Sleep(10 * soak) // the same file is not tried again
		if s := r.watcher.State(); s.RolledBack != 1 {
			t.Errorf("%+v", s)
		}
		r.replace(t, large)
		time.Sleep(2*every + soak + every)
		r.expect(t, "30", "40", "watching")
	})
}

func TestABrokenFileKeepsTheOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.replace(t, "http: {one: {base_url: 'http://u:"+secret+"@h', max_open: x}}")
		time.Sleep(3 * every)
		r.expect(t, "20", "20", "refused")
		time.Sleep(10 * soak)
		s := r.watcher.State()
		if s.Refused != 1 || s.Err == nil || !strings.Contains(s.Err.Error(), "it must be a whole number") {
			t.Errorf("%+v", s)
		}
		shown := setting(t, r.watcher, "error") + r.log.String()
		if !strings.Contains(shown, "service.yaml:1:") || strings.Contains(shown, secret) {
			t.Error(shown)
		}
		if len(r.events) != 1 || r.events[0].Kind != poolkeeper.EventReloadRefused {
			t.Errorf("%v", r.events)
		}
		report := r.reg.Health().Report()
		check, _ := report.Check("config/file")
		if check.Status != health.StatusFail || !report.Ready() {
			t.Errorf("the check is %s, ready %v: it must fail, and the service be ready", check.Status, report.Ready())
		}
		r.replace(t, small) // it is what is in effect
		time.Sleep(3 * every)
		r.expect(t, "20", "20", "watching")
		time.Sleep(soak)
		check, _ = r.reg.Health().Report().Check("config/file")
		if s := r.watcher.State(); s.Err != nil || check.Status != health.StatusPass {
			t.Errorf("%+v, the check is %s", s, check.Status)
		}
		if err := os.Remove(r.path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * every)
		r.expect(t, "20", "20", "refused")
		if s := r.watcher.State(); s.Refused != 2 {
			t.Errorf("%+v", s)
		}
	})
}

// What needs a restart is named. If a pool needs one, nothing is changed; otherwise the rest is.
func TestWhatNeedsARestartIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.replace(t, strings.Replace(large, "max_open: 40", "max_open: 40, start: start-degraded", 1))
		time.Sleep(3 * every)
		r.expect(t, "20", "20", "refused")
		if err := r.watcher.State().Err; err == nil || !strings.Contains(err.Error(), "http.two.start") {
			t.Error(err)
		}
		r.replace(t, strings.Replace(large, "interval: 1s", "interval: 2s", 1)+"lifecycle: {drain_delay: 3s, start_timeout: 9s}\nservers: {api: {addr: ':0'}}\n")
		time.Sleep(3*every + soak)
		r.expect(t, "30", "40", "watching")
		var keys []string
		for _, c := range r.watcher.State().Restart {
			keys = append(keys, c.Key)
		}
		if got := strings.Join(keys, " "); got != "servers.api lifecycle.start_timeout health.interval" {
			t.Error(got)
		}
		shown := ""
		for _, a := range r.watcher.Settings() {
			shown += a.String() + "\n"
		}
		for where, text := range map[string]string{
			"status page": shown, "log": r.log.String(), "event": r.events[len(r.events)-1].Err.Error(),
		} {
			if !strings.Contains(text, "lifecycle.start_timeout") || !strings.Contains(text, "health.interval") {
				t.Errorf("the %s does not say what needs a restart: %s", where, text)
			}
		}
		if !strings.Contains(shown, "health.interval: 1s → 2s") {
			t.Error(shown)
		}
		if now, _, err := r.reg.Plan(lifecycle.Config{DrainDelay: 3 * time.Second}); err != nil || len(now) > 0 {
			t.Errorf("the drain delay was not changed: %v, %v", now, err)
		}
	})
}

// Instances that are not among the first wait, and go on waiting from the start if the file
// changes.
func TestLaterInstancesWaitForTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, later := "", ""
		for i := 0; first == "" || later == ""; i++ {
			name := "pod-" + string(rune('a'+i))
			if config.IsFirst(name, 10) {
				first = name
			} else {
				later = name
			}
		}
		delay := 2 * (soak + every)
		r := newRig(t, config.Stage(10), config.Instance(later))
		r.replace(t, tiny)
		time.Sleep(delay / 2)
		r.expect(t, "20", "20", "staged")
		r.replace(t, large) // the first have rolled it back, and an operator has put it right
		time.Sleep(delay)
		r.expect(t, "20", "20", "staged")
		time.Sleep(3 * every)
		r.expect(t, "30", "40", "soaking")
		r2 := newRig(t, config.Stage(10), config.Instance(first))
		r2.replace(t, large)
		time.Sleep(2*every + time.Second)
		r2.expect(t, "30", "40", "soaking")
	})
}

// A file that comes back to the change during its trial is tried anew.
func TestAFileThatComesBackToAChangeIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.replace(t, large)
		time.Sleep(2*every + time.Second)
		r.expect(t, "30", "40", "soaking")
		r.replace(t, small)
		time.Sleep(soak / 10)
		r.expect(t, "20", "20", "refused")
		r.replace(t, large)
		time.Sleep(2*every + time.Second)
		r.expect(t, "30", "40", "soaking")
		time.Sleep(soak)
		r.expect(t, "30", "40", "watching")
		if err := os.Remove(r.path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(every)
		r.expect(t, "30", "40", "refused")
		if s := r.watcher.State(); s.Refused != 1 || s.RolledBack != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// A change that is taken back while it is watched is over at once.
func TestAFileThatChangesDuringSoakEndsTheTrial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.replace(t, large)
		time.Sleep(2*every + time.Second)
		r.expect(t, "30", "40", "soaking")
		r.replace(t, small)
		time.Sleep(every)
		r.expect(t, "20", "20", "refused")
		time.Sleep(3 * every)
		r.expect(t, "20", "20", "watching")
	})
}

func TestStageChoosesItsShareOfInstances(t *testing.T) {
	n := 0
	for i := range 10_000 {
		name := "api-7d9f-" + time.Duration(i).String()
		if config.IsFirst(name, 10) {
			n++
			if !config.IsFirst(name, 50) {
				t.Fatalf("%s is among 10 %%, and not among 50 %%", name)
			}
		}
		if !config.IsFirst(name, 100) {
			t.Fatalf("%s is not among all", name)
		}
	}
	if n < 800 || n > 1200 {
		t.Errorf("%d of 10,000 are among the first 10 %%", n)
	}
}

func TestWatchRefusesOptionsThatMakeNoSense(t *testing.T) {
	f := load(t, "")
	w := config.Watch(f, config.Every(0), config.Soak(-1), config.Stage(101))
	err := w.Start(t.Context())
	if err == nil {
		t.Fatal("no error")
	}
	for _, part := range []string{"Every is 0s", "Soak is -1ns", "Stage is 101", "call AddTo before"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%s is not in %v", part, err)
		}
	}
	if err := w.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if err := w.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if err := w.Start(t.Context()); err == nil {
		t.Error("it starts after Stop")
	}
}

// What counts as worse, case by case.
func TestWhatCountsAsWorse(t *testing.T) {
	for name, c := range map[string]struct {
		before, after config.Sample
		want          bool
	}{
		"nothing":                     {config.Sample{}, config.Sample{}, false},
		"four errors prove nothing":   {config.Sample{Acquired: 9}, config.Sample{Errors: 4}, false},
		"five errors":                 {config.Sample{Acquired: 9}, config.Sample{Acquired: 9, Errors: 5}, true},
		"five errors among thousands": {config.Sample{Acquired: 9}, config.Sample{Acquired: 9000, Errors: 5}, false},
		"as many errors as before":    {config.Sample{Acquired: 90, Errors: 10}, config.Sample{Acquired: 88, Errors: 12}, false},
		"down":                        {config.Sample{}, config.Sample{Down: true}, true},
		"down before":                 {config.Sample{Down: true}, config.Sample{Down: true}, false},
		"long waits":                  {config.Sample{Acquired: 100}, config.Sample{Acquired: 100, Waits: 100, Waited: 20 * time.Second}, true},
		"few long waits":              {config.Sample{Acquired: 100}, config.Sample{Acquired: 9, Waits: 9, Waited: 20 * time.Second}, false},
		"dials that take a moment":    {config.Sample{Acquired: 100}, config.Sample{Acquired: 100, Waits: 20, Waited: 2 * time.Second}, false},
		"crowded":                     {config.Sample{}, config.Sample{Crowded: 3}, true},
		"crowded before":              {config.Sample{Crowded: 1}, config.Sample{Crowded: 3}, false},
	} {
		if why := config.Worse(c.before, c.after); (why != "") != c.want {
			t.Errorf("%s: %q, want worse %v", name, why, c.want)
		}
	}
}

// The second pool refuses: its new server does not answer. The first gets its old size back.
func TestAPoolThatRefusesRollsBackTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.replace(t, strings.Replace(large, "http://two", "http://nowhere", 1))
		time.Sleep(3*every + 30*time.Second)
		r.expect(t, "20", "20", "refused")
		s := r.watcher.State()
		if s.RolledBack != 1 || s.Applied != 0 || s.Err == nil || !strings.Contains(s.Err.Error(), `reload "two"`) {
			t.Errorf("%+v", s)
		}
		if !strings.Contains(r.log.String(), `pool=one kind=reloaded MaxOpen="30 → 20"`) {
			t.Errorf("the first pool was not put back:\n%s", r.log.String())
		}
	})
}

// A shutdown during a trial is no verdict: nothing is rolled back or reported.
func TestShutdownDuringATrialReportsNothing(t *testing.T) {
	for name, text := range map[string]string{
		"while a pool is reloaded": strings.Replace(large, "http://two", "http://silent", 1),
		"while it soaks":           large,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.replace(t, text)
				time.Sleep(2*every + time.Second)
				if phase := r.watcher.State().Phase; phase != "trying" && phase != "soaking" {
					t.Errorf("the phase is %s", phase)
				}
				if err := r.reg.Shutdown(t.Context()); err != nil {
					t.Error(err)
				}
				if s := r.watcher.State(); s.RolledBack != 0 || len(r.events) != 0 {
					t.Errorf("%+v, %v", s, r.events)
				}
			})
		})
	}
}

// The secret of a new file can arrive after the file.
func TestAReferenceThatAppearsLaterIsTried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		held := filepath.Join(t.TempDir(), "url")
		r := newRig(t)
		r.replace(t, strings.Replace(large, "'http://two'", "{file: '"+held+"'}", 1))
		time.Sleep(3 * every)
		r.expect(t, "20", "20", "refused")
		testkit.Replace(t, held, []byte("http://two"))
		time.Sleep(3*every + soak)
		r.expect(t, "30", "40", "watching")
		if s := r.watcher.State(); s.Refused != 1 || s.Applied != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// A secret that a file holds is a change like another.
func TestAFileThatIsReferredToIsWatchedToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		held := write(t, "http://two")
		text := "http: {one: {base_url: 'http://one', max_open: 20}, two: {base_url: {file: '" + held + "'}, max_open: 20}}\n"
		r := newRig(t)
		r.replace(t, text)
		time.Sleep(3*every + soak)
		r.expect(t, "20", "20", "watching")
		testkit.Replace(t, held, []byte("http://other"))
		time.Sleep(3*every + soak)
		r.expect(t, "20", "20", "watching")
		two, err := r.file.HTTP("two")
		if err != nil {
			t.Fatal(err)
		}
		if got := setting(t, two, "base_url"); got != "http://other" || r.watcher.State().Applied != 1 {
			t.Errorf("base_url is %s, %+v", got, r.watcher.State())
		}
	})
}
