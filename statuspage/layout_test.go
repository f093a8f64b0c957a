package statuspage_test

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/poolkeeper/poolkeeper/internal/test/fuzzing"
	"github.com/poolkeeper/poolkeeper/statuspage"
)

// Whatever the graph: every edge leads to the right, no two nodes stand in the same place, and an
// edge that closes a cycle is the only one left out.
func TestEveryArrowPointsToTheRight(t *testing.T) {
	rapid.Check(t, everyArrowPointsToTheRight)
}

func FuzzEveryArrowPointsToTheRight(f *testing.F) { fuzzing.Property(f, everyArrowPointsToTheRight) }

func everyArrowPointsToTheRight(t *rapid.T) {
	n := rapid.IntRange(1, 40).Draw(t, "nodes")
	deps := make([][]int, n)
	edges := map[[2]int]bool{}
	for range rapid.IntRange(0, 80).Draw(t, "edges") {
		from, to := rapid.IntRange(0, n-1).Draw(t, "from"), rapid.IntRange(0, n-1).Draw(t, "to")
		if from < to {
			edges[[2]int{from, to}] = true
		}
		if from != to && (from < to || rapid.IntRange(0, 9).Draw(t, "cycle") == 0) {
			deps[from] = append(deps[from], to)
			edges[[2]int{from, to}] = true
		}
	}
	a := statuspage.Arrange(deps)
	for i, e := range a.Edges {
		if !edges[e] {
			t.Fatalf("an edge %v that nobody gave", e)
		}
		route := a.Routes[i]
		if route[0] != a.Spots[e[0]] || route[len(route)-1] != a.Spots[e[1]] {
			t.Fatalf("edge %v does not end at its nodes: %v", e, route)
		}
		for k := 1; k < len(route); k++ {
			if route[k][0] <= route[k-1][0] {
				t.Fatalf("edge %v goes back: %v", e, route)
			}
		}
	}
	for i := range n {
		for j := range i {
			if slices.Contains(a.Alone, i) || slices.Contains(a.Alone, j) || a.Spots[i][0] != a.Spots[j][0] {
				continue
			}
			if math.Abs(a.Spots[i][1]-a.Spots[j][1]) < 1-1e-9 {
				t.Fatalf("nodes %d and %d overlap: %v, %v", i, j, a.Spots[i], a.Spots[j])
			}
		}
	}
}

func TestAGraphWithoutCyclesKeepsAllItsEdges(t *testing.T) {
	a := statuspage.Arrange([][]int{{1, 2, 2}, {3}, {3}, nil, nil})
	if len(a.Edges) != 4 || !slices.Equal(a.Alone, []int{4}) {
		t.Errorf("edges %v, alone %v", a.Edges, a.Alone)
	}
}

// apart keeps the order, the distance, and the mean of each block: no shift of all makes it better.
func TestApartKeepsItsDistance(t *testing.T) {
	rapid.Check(t, apartKeepsItsDistance)
}

func FuzzApartKeepsItsDistance(f *testing.F) { fuzzing.Property(f, apartKeepsItsDistance) }

func apartKeepsItsDistance(t *rapid.T) {
	wish := rapid.SliceOfN(rapid.Float64Range(-20, 20), 1, 30).Draw(t, "wish")
	got := statuspage.Apart(wish)
	offset := 0.0
	for i := range got {
		if i > 0 && got[i]-got[i-1] < 1-1e-9 {
			t.Fatalf("%v of %v", got, wish)
		}
		offset += got[i] - wish[i]
	}
	if math.Abs(offset) > 1e-6*float64(len(wish)) {
		t.Fatalf("shifted by %g in all: %v of %v", offset, got, wish)
	}
}
