package main

import (
	"math/rand/v2"
	"strconv"
	"time"
)

// graph is a set of components: component i depends on deps[i], all of them smaller than i.
type graph struct {
	name        string
	names       []string
	deps        [][]int
	start, stop []time.Duration // how long each takes; nil: no time at all
}

func newGraph(name string, n int, deps func(i int) []int) graph {
	g := graph{name: name, names: make([]string, n), deps: make([][]int, n)}
	for i := range n {
		g.names[i] = "c" + strconv.Itoa(i)
		g.deps[i] = deps(i)
	}
	return g
}

// chain has every component depend on the one before it.
func chain(n int) graph {
	return newGraph("chain", n, func(i int) []int {
		if i == 0 {
			return nil
		}
		return []int{i - 1}
	})
}

// flat has no dependencies.
func flat(n int) graph {
	return newGraph("flat", n, func(int) []int { return nil })
}

// random has every component depend on up to three before it, and take 1 to 20 ms each way.
func random(n int, seed uint64) graph {
	r := rand.New(rand.NewPCG(seed, seed))
	g := newGraph("random", n, func(i int) []int {
		seen := map[int]bool{}
		var deps []int
		for range r.IntN(4) {
			if i == 0 {
				break
			}
			if d := r.IntN(i); !seen[d] {
				seen[d] = true
				deps = append(deps, d)
			}
		}
		return deps
	})
	g.start, g.stop = make([]time.Duration, n), make([]time.Duration, n)
	for i := range n {
		g.start[i] = time.Duration(1+r.IntN(20)) * time.Millisecond
		g.stop[i] = time.Duration(1+r.IntN(20)) * time.Millisecond
	}
	return g
}

func (g graph) size() int { return len(g.names) }

// dependents is the graph turned round.
func (g graph) dependents() [][]int {
	out := make([][]int, g.size())
	for i, deps := range g.deps {
		for _, d := range deps {
			out[d] = append(out[d], i)
		}
	}
	return out
}

// critical returns the least time a perfect scheduler needs to start and to stop the graph.
func (g graph) critical() (start, stop time.Duration) {
	if g.start == nil {
		return 0, 0
	}
	up, down := make([]time.Duration, g.size()), make([]time.Duration, g.size())
	for i := range g.size() {
		for _, d := range g.deps[i] {
			up[i] = max(up[i], up[d])
		}
		up[i] += g.start[i]
		start = max(start, up[i])
	}
	dependents := g.dependents()
	for i := g.size() - 1; i >= 0; i-- {
		for _, d := range dependents[i] {
			down[i] = max(down[i], down[d])
		}
		down[i] += g.stop[i]
		stop = max(stop, down[i])
	}
	return start, stop
}

// up and down are what component i does.
func (g graph) up(i int) {
	if g.start != nil {
		wait(g.start[i])
	}
}

func (g graph) down(i int) {
	if g.stop != nil {
		wait(g.stop[i])
	}
}

func wait(d time.Duration) {
	t := time.NewTimer(d)
	<-t.C
}
