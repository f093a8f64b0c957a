// Package dag answers a scheduler's questions about dependencies. It finds neighbours in both
// directions, cycles with their path, and the longest chain below a node. It knows nodes by index
// and nothing of names, clocks or goroutines.
//
// Every operation costs time and memory proportional to nodes plus edges; 10,000 nodes with 900,000
// edges are ordinary.
package dag

// Graph is a directed graph over the nodes 0 to Len()-1. It is immutable, and so safe for
// concurrent use.
type Graph struct {
	deps, dependents rows
	order            []int32 // without nodes on cycles and those that depend on one
}

// rows holds one list of neighbours per node in a single array.
type rows struct {
	first []int32 // row i is to[first[i]:first[i+1]]
	to    []int32
}

func (r rows) row(i int32) []int32 { return r.to[r.first[i]:r.first[i+1]:r.first[i+1]] }

// New returns the graph in which node i depends on deps[i]. Duplicates within one list count once;
// an index outside the graph is a fault of the caller and panics. deps is not kept.
func New(deps [][]int32) *Graph {
	n := len(deps)
	g := &Graph{
		deps:       rows{first: make([]int32, n+1)},
		dependents: rows{first: make([]int32, n+1)},
	}
	edges := 0
	for _, d := range deps {
		edges += len(d)
	}
	g.deps.to = make([]int32, 0, edges)
	seen := make([]int32, n) // seen[d] == i+1: i is known to depend on d
	for i, list := range deps {
		for _, d := range list {
			if seen[d] != int32(i)+1 {
				seen[d] = int32(i) + 1
				g.deps.to = append(g.deps.to, d)
				g.dependents.first[d+1]++
			}
		}
		g.deps.first[i+1] = int32(len(g.deps.to))
	}
	g.fillDependents(seen)
	p := g.newPeel()
	p.run()
	g.order = p.order
	return g
}

// fillDependents turns the deps rows around. dependents.first holds the length of row i at i+1;
// cursor is scratch.
func (g *Graph) fillDependents(cursor []int32) {
	first := g.dependents.first
	for i := 1; i < len(first); i++ {
		first[i] += first[i-1]
	}
	copy(cursor, first)
	g.dependents.to = make([]int32, len(g.deps.to))
	for i := range int32(len(cursor)) {
		for _, d := range g.deps.row(i) {
			g.dependents.to[cursor[d]] = i
			cursor[d]++
		}
	}
}

// Len returns the number of nodes.
func (g *Graph) Len() int { return len(g.deps.first) - 1 }

// Deps returns the nodes i depends on, in the order given. The caller must not change the slice.
func (g *Graph) Deps(i int32) []int32 { return g.deps.row(i) }

// Dependents returns the nodes that depend on i, by rising index. The caller must not change the
// slice.
func (g *Graph) Dependents(i int32) []int32 { return g.dependents.row(i) }

// Order returns the nodes in an order in which each comes after everything it depends on. Nodes on
// a cycle, and those that depend on one, are left out: the order is complete if and only if the
// graph has no cycle. The caller must not change the slice.
func (g *Graph) Order() []int32 { return g.order }

// Cycles returns cycles that must all be broken before the graph has an order, each as the path of
// its nodes, every node depending on the next and the last on the first. Two cycles in the result
// share no node. It is empty if and only if there is no cycle.
func (g *Graph) Cycles() [][]int32 {
	if len(g.order) == g.Len() {
		return nil
	}
	w := &walk{peel: g.newPeel(), cursor: make([]int32, g.Len()), at: make([]int32, g.Len())}
	w.peel.run()
	var out [][]int32
	for start := range int32(g.Len()) {
		for !w.peel.taken[start] {
			cycle := w.cycle(start)
			out = append(out, cycle)
			w.peel.take(cycle...)
			w.peel.run()
		}
	}
	return out
}

// walk follows dependencies that were not taken until it meets itself. What it walked before it met
// a cycle is kept, so that all walks together touch each edge once.
type walk struct {
	peel   *peel
	path   []int32
	at     []int32 // at[i] > 0: i is path[at[i]-1]
	cursor []int32 // dependencies of i before cursor[i] are taken
}

// cycle returns a cycle reached from start, or from what is left of an earlier walk.
func (w *walk) cycle(start int32) []int32 {
	for len(w.path) > 0 && w.peel.taken[w.path[len(w.path)-1]] {
		w.at[w.path[len(w.path)-1]] = 0
		w.path = w.path[:len(w.path)-1]
	}
	i := start
	if len(w.path) > 0 {
		i = w.firstLeft(w.path[len(w.path)-1])
	}
	for w.at[i] == 0 {
		w.path = append(w.path, i)
		w.at[i] = int32(len(w.path))
		i = w.firstLeft(i)
	}
	return append([]int32(nil), w.path[w.at[i]-1:]...)
}

// firstLeft returns a dependency of i that was not taken. A node that was not taken always has one.
func (w *walk) firstLeft(i int32) int32 {
	deps := w.peel.g.Deps(i)
	for w.peel.taken[deps[w.cursor[i]]] {
		w.cursor[i]++
	}
	return deps[w.cursor[i]]
}

// Chains returns, for every node, the weight of the heaviest chain from it down to a node without
// dependencies, itself included. The graph must have no cycle.
func (g *Graph) Chains(weight func(int32) int32) []int32 {
	chains := make([]int32, g.Len())
	for _, i := range g.Order() {
		below := int32(0)
		for _, d := range g.Deps(i) {
			below = max(below, chains[d])
		}
		chains[i] = below + weight(i)
	}
	return chains
}

// peel takes nodes whose dependencies were all taken.
type peel struct {
	g     *Graph
	open  []int32 // dependencies of i not taken yet
	taken []bool
	order []int32 // taken, in order; those before next have released their dependents
	next  int
}

func (g *Graph) newPeel() *peel {
	n := g.Len()
	p := &peel{g: g, open: make([]int32, n), taken: make([]bool, n), order: make([]int32, 0, n)}
	for i := range int32(n) {
		p.open[i] = int32(len(g.Deps(i)))
		if p.open[i] == 0 {
			p.take(i)
		}
	}
	return p
}

func (p *peel) take(nodes ...int32) {
	for _, i := range nodes {
		p.taken[i] = true
		p.order = append(p.order, i)
	}
}

func (p *peel) run() {
	for ; p.next < len(p.order); p.next++ {
		for _, d := range p.g.Dependents(p.order[p.next]) {
			p.open[d]--
			if p.open[d] == 0 && !p.taken[d] {
				p.take(d)
			}
		}
	}
}
