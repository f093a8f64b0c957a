package trials

import (
	"errors"
	"math/rand/v2"
	"strconv"
	"strings"
)

// Order builds 1,000 random graphs and looks whether every component started after, and stopped
// before, all it depends on.
//
//nolint:gochecknoglobals // a constant
var Order = Trial{
	Name:  "Order",
	Title: "order on 1,000 random DAGs",
	run:   order,
}

func order(t *trial) {
	rng := rand.New(rand.NewPCG(3, 1000)) //nolint:gosec // the same graphs for every library
	for range 1000 {
		t.log.reset()
		deps := randomGraph(rng)
		s := t.library()
		for _, i := range rng.Perm(len(deps)) { // a component may be added before what it depends on
			names := make([]string, len(deps[i]))
			for k, d := range deps[i] {
				names[k] = nodeName(d)
			}
			s.Add(nodeName(i), t.quick(nodeName(i)), names...)
		}
		ctx, cancel := t.within(10)
		startErr, stopErr := t.start(ctx, s), t.stop(ctx, s)
		cancel()
		if startErr != nil || stopErr != nil {
			t.Errorf("start: %v, stop: %v", startErr, stopErr)
			return
		}
		for i, list := range deps {
			for _, d := range list {
				t.before("+"+nodeName(d), "+"+nodeName(i))
				t.before("-"+nodeName(i), "-"+nodeName(d))
			}
		}
	}
}

// randomGraph returns, for 1 to 12 nodes, what each depends on, always with a smaller number.
func randomGraph(rng *rand.Rand) [][]int {
	deps := make([][]int, 1+rng.IntN(12))
	density := rng.Float64()
	for i := range deps {
		for d := range i {
			if rng.Float64() < density {
				deps[i] = append(deps[i], d)
			}
		}
	}
	return deps
}

func nodeName(i int) string { return "node" + strconv.Itoa(i) }

// Faults gives the library graphs that cannot work.
//
//nolint:gochecknoglobals // a constant
var Faults = Trial{
	Name:  "Faults",
	Title: "cycle named with its path; missing dependency with both names; duplicate refused",
	run:   faults,
}

func faults(t *trial) {
	for _, f := range []struct {
		what  string
		add   func(System)
		wants [][]string // the error has to contain all of one of these
	}{
		{"a cycle", func(s System) {
			s.Add("ann", t.quick("ann"), "bob")
			s.Add("bob", t.quick("bob"), "cid")
			s.Add("cid", t.quick("cid"), "ann")
		}, [][]string{{"ann", "bob", "cid"}}},
		{"a missing dependency", func(s System) {
			s.Add("ann", t.quick("ann"), "zoe")
		}, [][]string{{"ann", "zoe"}}},
		{"a duplicate name", func(s System) {
			s.Add("ann", t.quick("ann"))
			s.Add("ann", t.quick("ann"))
		}, [][]string{{"ann"}}},
	} {
		t.log.reset()
		s := t.library()
		f.add(s)
		ctx, cancel := t.within(3)
		err := t.start(ctx, s)
		if err == nil {
			t.Errorf("%s was not refused", f.what)
			err = errors.Join(t.stop(ctx, s))
		}
		cancel()
		for _, all := range f.wants {
			for _, name := range all {
				if err != nil && !strings.Contains(err.Error(), name) {
					t.Errorf("%s: the error does not name %s: %v", f.what, name, err)
				}
			}
		}
		if at := t.log.at("+ann"); at >= 0 {
			t.Errorf("%s: something was started: %v", f.what, &t.log)
		}
	}
}
