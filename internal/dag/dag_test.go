package dag_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/poolkeeper/poolkeeper/internal/dag"
	"github.com/poolkeeper/poolkeeper/internal/test/fuzzing"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestNeighboursInBothDirectionsOnceEach(t *testing.T) {
	g := dag.New([][]int32{{}, {0, 0}, {1, 0, 1}})
	if g.Len() != 3 {
		t.Fatalf("Len = %d", g.Len())
	}
	for i, want := range [][]int32{{}, {0}, {1, 0}} {
		if got := g.Deps(int32(i)); !slices.Equal(got, want) {
			t.Errorf("Deps(%d) = %v, want %v", i, got, want)
		}
	}
	for i, want := range [][]int32{{1, 2}, {2}, {}} {
		if got := g.Dependents(int32(i)); !slices.Equal(got, want) {
			t.Errorf("Dependents(%d) = %v, want %v", i, got, want)
		}
	}
}

func TestAnEmptyGraphIsAGraph(t *testing.T) {
	g := dag.New(nil)
	if g.Len() != 0 || len(g.Order()) != 0 || len(g.Cycles()) != 0 {
		t.Error("an empty graph has something in it")
	}
}

func drawGraph(t *rapid.T) [][]int32 {
	n := rapid.IntRange(0, 12).Draw(t, "nodes")
	deps := make([][]int32, n)
	for i := range deps {
		deps[i] = rapid.SliceOfN(rapid.Int32Range(0, int32(n-1)), 0, 3).Draw(t, fmt.Sprint("deps of ", i))
	}
	return deps
}

// reaches is the naive twin: does from need to, directly or not?
func reaches(deps [][]int32, from, to int32, depth int) bool {
	if depth == 0 {
		return false
	}
	return slices.ContainsFunc(deps[from], func(d int32) bool { return d == to || reaches(deps, d, to, depth-1) })
}

func TestCyclesAreRealAndBreakingThemLeavesNone(t *testing.T) {
	rapid.Check(t, cyclesAreReal)
}

func FuzzCyclesAreRealAndBreakingThemLeavesNone(f *testing.F) { fuzzing.Property(f, cyclesAreReal) }

func cyclesAreReal(t *rapid.T) {
	deps := drawGraph(t)
	g := dag.New(deps)
	cycles := g.Cycles()
	cyclic := false
	for i := range deps {
		cyclic = cyclic || reaches(deps, int32(i), int32(i), len(deps))
	}
	if cyclic != (len(cycles) > 0) {
		t.Fatalf("cycles %v, want some: %v", cycles, cyclic)
	}
	inCycle := map[int32]bool{}
	for _, c := range cycles {
		for k, i := range c {
			if next := c[(k+1)%len(c)]; !slices.Contains(deps[i], next) {
				t.Errorf("%v is no cycle: %d does not depend on %d", c, i, next)
			}
			if inCycle[i] {
				t.Errorf("%d is in two cycles: %v", i, cycles)
			}
			inCycle[i] = true
		}
	}
	rest := make([][]int32, len(deps))
	for i := range deps {
		for _, d := range deps[i] {
			if !inCycle[int32(i)] && !inCycle[d] {
				rest[i] = append(rest[i], d)
			}
		}
	}
	if left := dag.New(rest).Cycles(); len(left) > 0 {
		t.Errorf("without %v there is still %v", cycles, left)
	}
}

func TestOrderPutsDependenciesFirstAndChainsAreTheLongest(t *testing.T) {
	rapid.Check(t, orderPutsDependenciesFirst)
}

func FuzzOrderPutsDependenciesFirstAndChainsAreTheLongest(f *testing.F) {
	fuzzing.Property(f, orderPutsDependenciesFirst)
}

func orderPutsDependenciesFirst(t *rapid.T) {
	deps := drawGraph(t)
	for i := range deps { // towards smaller numbers only: no cycle
		deps[i] = slices.DeleteFunc(deps[i], func(d int32) bool { return d >= int32(i) })
	}
	g := dag.New(deps)
	order := g.Order()
	if len(order) != len(deps) {
		t.Fatalf("order %v of %d nodes", order, len(deps))
	}
	at := map[int32]int{}
	for k, i := range order {
		at[i] = k
		for _, d := range deps[i] {
			if _, ok := at[d]; !ok {
				t.Errorf("%d comes before %d: %v", i, d, order)
			}
		}
	}
	weight := func(i int32) int32 { return i % 3 }
	var twin func(i int32) int32
	twin = func(i int32) int32 {
		below := int32(0)
		for _, d := range deps[i] {
			below = max(below, twin(d))
		}
		return below + weight(i)
	}
	for i, got := range g.Chains(weight) {
		if want := twin(int32(i)); got != want {
			t.Errorf("chain below %d = %d, want %d", i, got, want)
		}
	}
}

func TestWorkIsProportionalToNodesAndEdges(t *testing.T) {
	// 10,000 nodes in rings of 100, each also depending on 90 of the ring before: 900,000 edges,
	// 100 cycles. Anything quadratic would take minutes.
	const n, ring, fan = 10_000, 100, 90
	deps := make([][]int32, n)
	for i := range deps {
		first := i / ring * ring
		deps[i] = append(deps[i], int32(first+(i+1)%ring))
		for k := range min(fan, first) {
			deps[i] = append(deps[i], int32(first-ring+k))
		}
	}
	began := time.Now()
	g := dag.New(deps)
	if cycles := g.Cycles(); len(cycles) != n/ring {
		t.Errorf("%d cycles, want %d", len(cycles), n/ring)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("took %v", took)
	}
}
