package lifecycle_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/lifecycle/event"
)

func TestAllFaultsAreReportedAtOnceAndNothingStarts(t *testing.T) { // INV-13
	reg := lifecycle.New(lifecycle.Config{
		Logger: quiet().Logger, StartTimeout: -1, DrainDelay: -time.Second, Signals: []os.Signal{nil}, OnHang: 9,
	})
	var fakes []*fake
	add := func(name string, opts ...lifecycle.Option) {
		f := &fake{}
		fakes = append(fakes, f)
		reg.Add(name, f.As(aborts), opts...)
	}
	add("orders")
	add("orders")
	add("")
	add(" padded")
	add("two\nlines")
	add(strings.Repeat("x", 101))
	reg.Add("nil", nil)
	var typed *fake
	reg.Add("typed nil", typed)
	reg.Add("nil worker", lifecycle.Worker(nil))
	add("api", lifecycle.WithDependencies("ordres", "orders"))
	add("ann", lifecycle.WithDependencies("bob"))
	add("bob", lifecycle.WithDependencies("cid", "orders"))
	add("cid", lifecycle.WithDependencies("ann"))
	add("self", lifecycle.WithDependencies("self"))
	add("probes", lifecycle.WithOps(), lifecycle.WithDependencies("orders"))
	add("odd", lifecycle.WithStartTimeout(0), lifecycle.WithStopTimeout(-1), lifecycle.WithDeathPolicy(7),
		lifecycle.WithHealthCheck(health.Check{Name: "mine", DependsOn: []string{"x"}}))
	reg.Add("immortal", lifecycle.Hooks{}, lifecycle.WithDeathPolicy(lifecycle.DeathPolicyIgnore))
	add("check", lifecycle.WithHealthCheck(health.Check{Probe: func(context.Context) error { return nil }, Interval: -1}))
	add("restarted", lifecycle.WithDeathPolicy(lifecycle.DeathPolicyRestart))
	reg.Add("closer", lifecycle.Closer(nopCloser{}), lifecycle.WithDependencies("restarted"))
	add("ops restarted", lifecycle.WithOps(), lifecycle.WithDeathPolicy(lifecycle.DeathPolicyRestart))

	wants := []string{
		`Config.StartTimeout: -1ns is negative`, `Config.DrainDelay: -1s is negative`, `Config.Signals: contains nil`,
		`Config.OnHang: neither HangPolicyAbandon nor HangPolicyHold`,
		`"orders" was added twice`, `add "": bad name of a lifecycletest.abortFake: it is empty`, `white space at its begin or end`,
		`characters that cannot be printed`, `101 bytes, at most 100`,
		`add "nil": nil component`, `add "typed nil": nil component`,
		`add "nil worker": nil component`,
		`"api" depends on "ordres", which was not added; did you mean "orders"?`,
		`dependency cycle: "ann" → "bob" → "cid" → "ann"`, `dependency cycle: "self" → "self"`,
		`"probes": WithOps: depends on "orders", which is not marked WithOps`,
		`"odd": WithStartTimeout: 0s is not positive`, `"odd": WithStopTimeout: -1ns is not positive`,
		`"odd": WithDeathPolicy: unknown policy`, `"odd": WithHealthCheck: Name is given`, `"odd": WithHealthCheck: DependsOn is given`,
		`"odd": WithHealthCheck: no Probe is given`, `"immortal": WithDeathPolicy: lifecycle.Hooks is no DoneNotifier`,
		`"check": WithHealthCheck: `, `"restarted": WithDeathPolicy: cannot be restarted, because these are not Restartable: "closer"`,
		`"ops restarted": WithDeathPolicy: an ops component cannot be restarted`,
	}
	validated := reg.Validate()
	wantText(t, validated.Error(), wants...)
	if again := reg.Validate(); again.Error() != validated.Error() {
		t.Error("Validate has changed something")
	}
	started := reg.Start(t.Context())
	wantText(t, started.Error(), wants...)

	cycle, ok := errors.AsType[*lifecycle.CycleError](started)
	if !ok || !slices.Equal(cycle.Path, []string{"ann", "bob", "cid"}) {
		t.Errorf("CycleError %+v", cycle)
	}
	missing, ok := errors.AsType[*lifecycle.MissingDependencyError](started)
	if !ok || *missing != (lifecycle.MissingDependencyError{Name: "api", Dependency: "ordres", Nearest: "orders"}) {
		t.Errorf("MissingDependencyError %+v", missing)
	}
	if dup, ok := errors.AsType[*lifecycle.DuplicateError](started); !ok || dup.Name != "orders" {
		t.Errorf("DuplicateError %+v", dup)
	}
	wantErr(t, started, lifecycle.ErrName, lifecycle.ErrNilComponent)
	for i, f := range fakes {
		if f.Calls(event.PhaseStart) != 0 || f.Calls(event.PhaseAbort) != 1 {
			t.Errorf("component %d: started %d times, aborted %d; want 0 and 1: constructors may have started goroutines",
				i, f.Calls(event.PhaseStart), f.Calls(event.PhaseAbort))
		}
	}
	if after := reg.Validate(); after == nil || after.Error() != validated.Error() {
		t.Errorf("Validate after Start = %v", after)
	}
}

type nopCloser struct{}

func (nopCloser) Close() error { return nil }

func TestAddAfterStartIsAFaultThatIsLogged(t *testing.T) {
	reg := lifecycle.New(quiet())
	seen := record(reg)
	mustStart(t, reg)
	f := &fake{}
	reg.Add("late", f)
	wantErr(t, reg.Validate(), lifecycle.ErrFrozen)
	if err := reg.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if e := eventOf[*event.Refused](t, seen, "late"); !errors.Is(e.Err, lifecycle.ErrFrozen) {
		t.Errorf("event %+v", e.Details())
	}
	if f.Calls(event.PhaseStart)+f.Calls(event.PhaseStop) != 0 {
		t.Error("a refused component was called")
	}
}

func TestAFaultlessRegistryValidates(t *testing.T) {
	reg := lifecycle.New(quiet())
	reg.Add("a", &fake{}, lifecycle.WithDependencies("b", "b"), lifecycle.WithDependencies("c"), nil)
	reg.Add("b", &fake{}, lifecycle.WithStartTimeout(time.Second), lifecycle.WithStopTimeout(time.Second))
	reg.Add("c", &fake{}, lifecycle.WithDeathPolicy(lifecycle.DeathPolicyRestart))
	if err := reg.Validate(); err != nil {
		t.Error(err)
	}
	if err := (lifecycle.Config{}).Validate(); err != nil {
		t.Errorf("the zero Config: %v", err)
	}
	if err := reg.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestComponentsLearnTheirNamesOnce(t *testing.T) {
	reg := lifecycle.New(quiet())
	a, b := &named{}, &named{}
	reg.Add("orders", a)
	reg.Add("orders", b) // refused
	if !slices.Equal(a.names, []string{"orders"}) || len(b.names) != 0 {
		t.Errorf("names %v and %v, want [orders] and none", a.names, b.names)
	}
	var got []string
	for name, c := range reg.Components() {
		if c == lifecycle.Component(a) {
			got = append(got, name)
		}
	}
	if !slices.Equal(got, []string{"orders"}) {
		t.Errorf("Components yields %v", got)
	}
}

type named struct {
	noop

	names []string
}

func (n *named) SetName(name string) { n.names = append(n.names, name) }

func TestChecksAreJudgedWithTheRegistrysOwnDefaults(t *testing.T) {
	check := lifecycle.WithHealthCheck(health.Check{Probe: func(context.Context) error { return nil }, MaxAge: time.Minute})
	for interval, fine := range map[time.Duration]bool{0: true, time.Hour: false} {
		cfg := quiet()
		cfg.Health.Interval = interval
		reg := lifecycle.New(cfg)
		reg.Add("db", &fake{}, check)
		if err := reg.Validate(); (err == nil) != fine {
			t.Errorf("Interval %v by default and MaxAge 1m: %v", interval, err)
		}
	}
}
