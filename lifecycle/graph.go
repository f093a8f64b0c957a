package lifecycle

import (
	"fmt"
	"slices"

	"github.com/poolkeeper/poolkeeper/internal/dag"
	"github.com/poolkeeper/poolkeeper/internal/nearest"
)

// plan is a graph that was checked, before it is adopted.
type plan struct {
	graph  *dag.Graph
	chains []int32
	nodes  []*node
}

// maxSuggestions bounds the search for names like the missing ones: each costs a look at every
// name.
const maxSuggestions = 100

// planLocked resolves names, and returns every fault of the graph and the options. With a fault
// there is no order: the graph returned then has no edges.
func (r *Registry) planLocked() (plan, []error) {
	deps, faults := r.resolveLocked()
	for _, n := range r.nodes {
		faults = append(faults, r.optionFaults(n)...)
	}
	g := dag.New(deps)
	for _, cycle := range g.Cycles() {
		faults = append(faults, &cycleError{Path: r.namesLocked(cycle)})
	}
	faults = append(faults, r.restartFaultsLocked(g)...)
	if len(faults)+len(r.faults) > 0 {
		g = dag.New(make([][]int32, len(r.nodes)))
		return plan{g, g.Chains(one), r.nodes}, faults
	}
	return r.withBarrierLocked(g, deps), nil
}

// opsFault says that an ops component depends on one that is not, or nil.
func opsFault(n, dependency *node) error {
	if !n.ops || dependency.ops {
		return nil
	}
	return &optionError{Name: n.name, Option: "WithOps", Reason: fmt.Sprintf(
		"depends on %q, which is not marked WithOps: it would have to be up before itself", dependency.name,
	)}
}

// resolveLocked turns the names of dependencies into the indices of their nodes.
func (r *Registry) resolveLocked() (deps [][]int32, faults []error) {
	edges := 0
	for _, n := range r.nodes {
		edges += len(n.dependsOn)
	}
	deps = make([][]int32, 0, len(r.nodes)+1)
	all := make([]int32, 0, edges) // one array for all lists
	suggestions := 0
	for _, n := range r.nodes {
		from := len(all)
		for _, name := range n.dependsOn {
			d := r.byName[name]
			switch {
			case d != nil:
				if fault := opsFault(n, d); fault != nil {
					faults = append(faults, fault)
				}
				all = append(all, d.id)
			case !r.refused[name]:
				missing := &missingDependencyError{Name: n.name, Dependency: name}
				if suggestions++; suggestions <= maxSuggestions {
					missing.Nearest = r.nearestLocked(name)
				}
				faults = append(faults, missing)
			}
		}
		deps = append(deps, slices.Clip(all[from:]))
	}
	return deps, faults
}

func one(int32) int32 { return 1 }

// withBarrierLocked puts a node between ops components and the rest: it depends on every ops
// component, and all others depend on it. An edge from each to each would do the same at the cost
// of a product.
func (r *Registry) withBarrierLocked(g *dag.Graph, deps [][]int32) plan {
	var ops []int32
	for _, n := range r.nodes {
		if n.ops {
			ops = append(ops, n.id)
		}
	}
	if len(ops) == 0 || len(ops) == len(r.nodes) {
		return plan{g, g.Chains(one), r.nodes}
	}
	barrier := &node{id: int32(len(r.nodes)), since: r.birth} //nolint:gosec // see newNodeLocked
	for i, n := range r.nodes {
		if !n.ops {
			deps[i] = append(deps[i], barrier.id)
		}
	}
	g = dag.New(append(deps, ops))
	chains := g.Chains(func(i int32) int32 {
		if i == barrier.id {
			return 0
		}
		return 1
	})
	return plan{g, chains, append(slices.Clip(r.nodes), barrier)}
}

// freezeLocked fixes the set of components and their order.
func (r *Registry) freezeLocked() {
	if r.graph == nil {
		p, faults := r.planLocked()
		r.faults = append(r.faults, faults...)
		r.graph, r.chains, r.nodes = p.graph, p.chains, p.nodes
	}
}

func (r *Registry) optionFaults(n *node) []error {
	var faults []error
	fault := func(option, format string, args ...any) {
		faults = append(faults, &optionError{Name: n.name, Option: option, Reason: fmt.Sprintf(format, args...)})
	}
	for _, o := range n.bad {
		fault(o.option, "%s", o.reason)
	}
	if _, dies := n.comp.(DoneNotifier); n.deathSet && !dies {
		fault("WithDeathPolicy", "%T is no DoneNotifier: its death cannot be seen", n.comp)
	}
	return append(faults, r.checkFaults(n)...)
}

// restartFaultsLocked finds components to be restarted that cannot be, or that have dependents that
// cannot be.
func (r *Registry) restartFaultsLocked(g *dag.Graph) []error {
	var faults []error
	for _, n := range r.nodes {
		if _, dies := n.comp.(DoneNotifier); !dies || n.onDeath != DeathPolicyRestart {
			continue // it is a fault already, or none
		}
		var stuck []string
		for _, id := range withDependents(g, n.id) {
			if d := r.nodes[id]; !d.restartable {
				stuck = append(stuck, d.name)
			}
		}
		if n.ops {
			faults = append(faults, &optionError{
				Name: n.name, Option: "WithDeathPolicy",
				Reason: "an ops component cannot be restarted: everything would have to stop for it",
			})
		}
		if len(stuck) > 0 {
			faults = append(faults, &optionError{
				Name: n.name, Option: "WithDeathPolicy",
				Reason: "cannot be restarted, because these are not Restartable: " + quoteJoin(stuck, ", "),
			})
		}
	}
	return faults
}

func restartable(c Component) bool {
	r, ok := c.(Restartable)
	return ok && r.Restartable()
}

// withDependents returns i and everything that depends on it, directly or not.
func withDependents(g *dag.Graph, roots ...int32) []int32 {
	seen := make(map[int32]bool, len(roots))
	var out []int32
	visit := func(ids []int32) {
		for _, id := range ids {
			if !seen[id] {
				seen[id] = true
				out = append(out, id)
			}
		}
	}
	visit(roots)
	for at := 0; at < len(out); at++ {
		visit(g.Dependents(out[at]))
	}
	return out
}

func (r *Registry) namesLocked(ids []int32) []string {
	names := make([]string, 0, len(ids))
	for _, id := range ids {
		if n := r.nodes[id]; n.comp != nil {
			names = append(names, n.name)
		}
	}
	return names
}

// nearestLocked returns the name most like the given one, or "" if none is like it. Among equals
// the first added wins.
func (r *Registry) nearestLocked(name string) string {
	return nearest.Name(name, func(yield func(string) bool) {
		for _, n := range r.nodes {
			if !yield(n.name) {
				return
			}
		}
	})
}
