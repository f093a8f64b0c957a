package health_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/test/fuzzing"
)

// failing builds a monitor of checks, each "name" or "name!" for one that fails, with what it
// depends on.
func failing(t *testing.T, checks map[string][]string) *health.Monitor {
	t.Helper()
	m := health.New(health.Config{})
	for marked, on := range checks {
		var probe script
		name, bad := strings.CutSuffix(marked, "!")
		if bad {
			probe.say(fmt.Errorf("%s is broken", name))
		}
		register(t, m, health.Check{Name: name, Probe: probe.probe, DependsOn: on})
	}
	start(t, m)
	settle()
	return m
}

func causes(m *health.Monitor, name string) []string {
	c, _ := m.Report().Check(name)
	return c.CausedBy
}

func TestFailureIsPutDownToTheRootCause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := failing(t, map[string][]string{
			"disk": nil, "network!": nil, "postgres!": {"disk", "network"}, "redis!": nil, "unrelated!": {"disk", "nobody"},
			"repository!": {"postgres"}, "cache": {"redis"}, "orders API!": {"repository", "cache", "redis"},
		})
		for name, want := range map[string][]string{
			"network": nil, "postgres": {"network"}, "repository": {"network"}, "orders API": {"network", "redis"},
			"cache": nil, "unrelated": nil, // a dependency that works, or is not there, is no cause
		} {
			if got := causes(m, name); !slices.Equal(got, want) {
				t.Errorf("%s is put down to %q, want %q", name, got, want)
			}
		}
		g, _ := m.Report().Group(health.GroupReady)
		if want := "postgres is down because of network: network is broken"; !strings.Contains(g.Reason, "network: network is broken") {
			t.Errorf("the page says first %q, want something like %q", g.Reason, want)
		}
	})
}

func TestCyclesAndSelfReferencesAreCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := failing(t, map[string][]string{"self!": {"self"}, "a!": {"b"}, "b!": {"c"}, "c!": {"a"}, "outside!": {"a"}})
		if got := causes(m, "self"); got != nil {
			t.Errorf("self is put down to %q", got)
		}
		if got := causes(m, "outside"); len(got) == 0 || slices.Contains(got, "outside") {
			t.Errorf("outside is put down to %q", got)
		}
	})
}

// The naive twin: walk every path of failed checks, and collect where they end.
func naiveCauses(on map[string][]string, failed map[string]bool, name string) []string {
	var ends []string
	for _, d := range on[name] {
		if !failed[d] {
			continue
		}
		if below := naiveCauses(on, failed, d); len(below) > 0 {
			ends = append(ends, below...)
		} else {
			ends = append(ends, d)
		}
	}
	slices.Sort(ends)
	ends = slices.Compact(ends)
	return ends[:min(len(ends), health.MaxCauses)]
}

func TestCausesAgreeWithNaiveTwin(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) { causesAgree(t, rt) })
}

func FuzzCausesAgreeWithNaiveTwin(f *testing.F) { fuzzing.Bubble(f, causesAgree) }

func causesAgree(t *testing.T, rt *rapid.T) {
	t.Helper()
	n := rapid.IntRange(1, 8).Draw(rt, "checks")
	on := map[string][]string{}
	failed := map[string]bool{}
	for i := range n {
		name := fmt.Sprintf("c%d", i)
		failed[name] = rapid.Bool().Draw(rt, name+" fails")
		for j := range i { // to earlier ones only: no cycle
			if rapid.Bool().Draw(rt, fmt.Sprintf("%s on c%d", name, j)) {
				on[name] = append(on[name], fmt.Sprintf("c%d", j))
			}
		}
	}
	m := health.New(health.Config{})
	for name, bad := range failed {
		var probe script
		if bad {
			probe.say(errDown)
		}
		register(t, m, health.Check{Name: name, Probe: probe.probe, DependsOn: on[name], Interval: time.Hour})
	}
	if err := m.Start(t.Context()); err != nil {
		rt.Fatal(err)
	}
	eventually(t, "decided", func() bool {
		return !slices.ContainsFunc(m.Report().Checks, func(c health.CheckReport) bool { return c.Status == health.StatusUnknown })
	})
	for name, bad := range failed {
		var want []string
		if bad {
			want = naiveCauses(on, failed, name)
		}
		if got := causes(m, name); !slices.Equal(got, want) {
			rt.Errorf("%s is put down to %q, the naive twin says %q; failed %v, dependencies %v", name, got, want, failed, on)
		}
	}
	stop(t, m)
}

// Of what keeps a group from passing the gravest is said first.
func TestReasonNamesTheGravestCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := health.New(health.Config{Interval: time.Second})
		start(t, m)
		reason := func(want string) {
			t.Helper()
			settle()
			g, _ := m.Report().Group(health.GroupReady)
			if g.Reason != want {
				t.Errorf("reason %q, want %q", g.Reason, want)
			}
		}
		reason("")
		register(t, m, health.Check{Name: "a", Probe: func(context.Context) error { return health.Degraded(errDown) }, Impact: health.ImpactDegrading})
		reason("a: down on purpose")
		register(t, m, health.Check{Name: "b", Probe: func(context.Context) error { return context.DeadlineExceeded }, Impact: health.ImpactDegrading})
		reason("b: context deadline exceeded (timeout)")
		register(t, m, health.Check{Name: "c", Probe: func(context.Context) error { return nil }, InitialDelay: time.Hour})
		reason("c: no result yet")
		register(t, m, health.Check{Name: "d", Probe: func(context.Context) error { return errDown }})
		reason("d: down on purpose")
	})
}
