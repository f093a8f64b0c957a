package lifecycle_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/lifecycle/event"
)

// checked is a component whose health the test decides.
type checked struct {
	fake

	mu       sync.Mutex // guards the following
	err      error
	observer poolkeeper.Observer
	probes   int
}

func (c *checked) set(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
}

func (c *checked) Check(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.probes++
	return c.err
}

func (c *checked) ObserveWith(o poolkeeper.Observer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.observer = o
}

func (c *checked) look() (o poolkeeper.Observer, probes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.observer, c.probes
}

// sharded is a component with a check per shard.
type sharded struct {
	fake

	checks   []health.Check
	observer poolkeeper.Observer
}

func (s *sharded) Checks() []health.Check            { return s.checks }
func (s *sharded) ObserveWith(o poolkeeper.Observer) { s.observer = o }
func shard(name string, err *atomic.Value) health.Check {
	return health.Check{Name: name, Probe: probe(err)}
}

func probe(err *atomic.Value) func(context.Context) error {
	return func(context.Context) error {
		if e, ok := err.Load().(error); ok {
			return e
		}
		return nil
	}
}

func checkNames(reg *lifecycle.Registry) []string {
	var names []string
	for _, c := range reg.Health().Report().Checks {
		names = append(names, c.Name)
	}
	return names
}

func TestChecksBeginWhenTheirComponentIsUpAndEndBeforeItStops(t *testing.T) { // INV-3
	synctest.Test(t, func(t *testing.T) {
		reg := lifecycle.New(quiet())
		c := &checked{}
		c.OnStart = script{Delay: 10 * time.Second}
		c.OnStop = script{Delay: 10 * time.Second}
		reg.Add("db", c)
		if reg.Health().Report().Ready() {
			t.Error("ready before Start")
		}
		defer after(5*time.Second, func() {
			if len(checkNames(reg)) > 0 || reg.Health().Report().Ready() {
				t.Errorf("while starting: checks %v, ready %v", checkNames(reg), reg.Health().Report().Ready())
			}
			if live, _ := reg.Health().Report().Group(health.GroupLive); !live.Status.OK() {
				t.Error("not live while starting")
			}
		})()
		mustStart(t, reg)
		synctest.Wait()
		if !slices.Equal(checkNames(reg), []string{"db"}) || !reg.Health().Report().Ready() {
			t.Errorf("checks %v, ready %v", checkNames(reg), reg.Health().Report().Ready())
		}
		c.set(errDied)
		advance(time.Minute)
		if reg.Health().Report().Ready() {
			t.Error("ready with a failed check")
		}
		var probes int
		wait := after(5*time.Second, func() {
			if len(checkNames(reg)) > 0 {
				t.Errorf("while stopping: checks %v", checkNames(reg))
			}
			_, probes = c.look()
		})
		if err := reg.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		wait()
		if _, now := c.look(); now != probes {
			t.Error("probed while stopping")
		}
	})
}

func TestAFailedDependencyIsNamedAsTheCauseThroughComponentsWithoutCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := lifecycle.New(quiet())
		db, api := &checked{}, &checked{}
		var shard1, shard2 atomic.Value
		cache := &sharded{checks: []health.Check{shard("one", &shard1), shard("two", &shard2)}}
		reg.Add("db", db)
		reg.Add("repository", &fake{}, lifecycle.WithDependencies("db")) // has no check
		reg.Add("cache", cache)
		reg.Add("probes", &checked{}, lifecycle.WithOps())
		reg.Add("api", api, lifecycle.WithDependencies("repository", "cache"))
		mustStart(t, reg)
		if want := []string{"api", "cache/one", "cache/two", "db", "probes"}; !slices.Equal(checkNames(reg), want) {
			t.Errorf("checks %v, want %v", checkNames(reg), want)
		}
		for _, fail := range []struct {
			what func()
			want []string
		}{
			{func() { db.set(errDied) }, []string{"db"}},
			{func() { shard2.Store(errDied) }, []string{"cache/two", "db"}},
		} {
			fail.what()
			api.set(errors.New("cannot work"))
			advance(time.Minute)
			r, _ := reg.Health().Report().Check("api")
			slices.Sort(r.CausedBy)
			if !slices.Equal(r.CausedBy, fail.want) {
				t.Errorf("caused by %v, want %v", r.CausedBy, fail.want)
			}
		}
		if err := reg.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestHealthCheckOverridesWhatIsNotZero(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := quiet()
		cfg.Health.Interval = time.Minute
		reg := lifecycle.New(cfg)
		often, seldom := &checked{}, &checked{}
		var own atomic.Int32
		reg.Add("often", often, lifecycle.WithHealthCheck(health.Check{
			Interval: time.Second, Impact: health.ImpactDegrading, Groups: []string{"custom"}, FailureThreshold: 1,
		}))
		reg.Add("seldom", seldom)
		reg.Add("own probe", &fake{}, lifecycle.WithHealthCheck(health.Check{
			Probe: func(context.Context) error { own.Add(1); return nil },
		}))
		cache := &sharded{checks: []health.Check{{Name: "one", Probe: probe(new(atomic.Value))}}}
		reg.Add("cache", cache, lifecycle.WithHealthCheck(health.Check{Impact: health.ImpactDegrading}))
		mustStart(t, reg)
		advance(10 * time.Minute)
		_, many := often.look()
		_, few := seldom.look()
		if many < 500 || few > 15 || own.Load() == 0 {
			t.Errorf("probed %d, %d and %d times", many, few, own.Load())
		}
		for _, name := range []string{"often", "cache/one"} {
			if r, _ := reg.Health().Report().Check(name); r.Impact != health.ImpactDegrading {
				t.Errorf("%s is %v", name, r.Impact)
			}
		}
		if r, _ := reg.Health().Report().Check("often"); !slices.Equal(r.Groups, []string{"custom"}) {
			t.Errorf("groups %v", r.Groups)
		}
		if err := reg.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestWhatTrafficSeesReachesTheCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := quiet()
		cfg.Health.Interval, cfg.Health.RetryInterval = time.Hour, time.Second
		reg := lifecycle.New(cfg)
		c := &checked{}
		cache := &sharded{checks: []health.Check{
			{Name: "one", Probe: probe(new(atomic.Value))}, {Name: "two", Probe: probe(new(atomic.Value))},
		}}
		reg.Add("db", c)
		reg.Add("cache", cache)
		mustStart(t, reg)
		advance(time.Minute)
		o, before := c.look()
		o.Observe(errDied)
		cache.observer.Observe(errDied)
		advance(2 * time.Second)
		if _, now := c.look(); now != before+1 {
			t.Errorf("probed %d times after an error of traffic, want once", now-before)
		}
		if err := reg.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		o.Observe(errDied) // late traffic must do no harm
	})
}

func TestChecksComeBackWithARestart(t *testing.T) { // INV-3
	synctest.Test(t, func(t *testing.T) {
		reg := lifecycle.New(quiet())
		c := &checked{}
		reg.Add("db", c, lifecycle.WithDeathPolicy(lifecycle.DeathPolicyRestart))
		mustStart(t, reg)
		first, _ := c.look()
		c.Die(errDied)
		synctest.Wait()
		if len(checkNames(reg)) > 0 {
			t.Error("a dead component is checked")
		}
		advance(2 * time.Second)
		if second, _ := c.look(); second == first || !slices.Equal(checkNames(reg), []string{"db"}) {
			t.Error("no new check after the restart")
		}
		if err := reg.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestChecksThatCannotBeRegisteredFailTheStart(t *testing.T) { // INV-13
	reg := lifecycle.New(quiet())
	ok := probe(new(atomic.Value))
	s := &sharded{checks: []health.Check{{Name: "one", Probe: ok}, {Name: "one", Probe: ok}}}
	reg.Add("cache", s)
	err := reg.Start(t.Context())
	wantErr(t, err, health.ErrDuplicate)
	if ce := componentError(t, err, "cache"); ce.Phase != event.PhaseHealth {
		t.Errorf("phase %s, want health", ce.Phase)
	}
	if s.Calls(event.PhaseStop) != 1 {
		t.Error("the component, which is up, was not stopped")
	}
	if len(checkNames(reg)) > 0 {
		t.Errorf("checks left: %v", checkNames(reg))
	}
}

func TestAHungProbeDelaysNoStopAndIsNamed(t *testing.T) { // INV-2
	synctest.Test(t, func(t *testing.T) {
		reg := lifecycle.New(quiet())
		release := make(chan struct{})
		f := &fake{}
		reg.Add("db", f, lifecycle.WithHealthCheck(health.Check{Probe: func(context.Context) error { <-release; return nil }}))
		mustStart(t, reg)
		advance(time.Minute)
		began := time.Now()
		err := reg.Shutdown(within(t, 10*time.Second))
		if took := time.Since(began); took != time.Second || f.Calls(event.PhaseStop) != 1 {
			t.Errorf("took %v, stopped %d times", took, f.Calls(event.PhaseStop))
		}
		if s := reg.Status(); s.Shutdown.Steps[0].Took != 0 {
			t.Errorf("the stop took %v", s.Shutdown.Steps[0].Took)
		}
		wantText(t, err.Error(), "still running", `"db"`)
		close(release)
	})
}
