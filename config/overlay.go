package config

import "slices"

// environmentsKey is the section that holds the environments.
const environmentsKey = "environments"

// overlay returns the tree of one environment: the file without its environments, and over that
// what the environment says. The name "" is the file alone.
func overlay(root *node, name string, into *faults) *node {
	base := &node{at: root.at, shape: mapping}
	for _, f := range root.fields {
		if f.name != environmentsKey {
			base.fields = append(base.fields, f)
		}
	}
	all := root.get(environmentsKey)
	if all != nil && all.shape != mapping && all.shape != null {
		into.add(all.at, "%s must be a mapping, from names to what differs", environmentsKey)
		return base
	}
	if name == "" {
		return base
	}
	over := all.get(name)
	switch {
	case over == nil:
		known := environmentsOf(root)
		into.add(root.at, "it has no environment %q; it has %s%s", name, listed(known), suggestion(name, known))
		return base
	case over.shape == null:
		return base
	case over.shape != mapping:
		into.add(over.at, "%s must be a mapping of sections", over.path)
		return base
	}
	if f := over.get(environmentsKey); f != nil {
		into.add(f.at, "an environment cannot have environments")
	}
	unprefix(over, len(over.path)+1)
	return merge(base, over)
}

// unprefix takes "environments.prod." off the paths: they are those of the keys that are set.
func unprefix(n *node, cut int) {
	for _, f := range n.fields {
		f.value.path = f.value.path[cut:]
		unprefix(f.value, cut)
	}
	for _, i := range n.items {
		if len(i.path) > cut {
			i.path = i.path[cut:]
		}
		unprefix(i, cut)
	}
}

// merge returns base with what over says on top. Mappings are merged, everything else is replaced,
// and a null takes the key away.
func merge(base, over *node) *node {
	out := &node{at: base.at, path: base.path, shape: mapping, fields: slices.Clone(base.fields)}
	for _, f := range over.fields {
		i := slices.IndexFunc(out.fields, func(o field) bool { return o.name == f.name })
		switch {
		case i < 0:
			out.fields = append(out.fields, f)
		case f.value.shape == null:
			out.fields = slices.Delete(out.fields, i, i+1)
		case f.value.shape == mapping && out.fields[i].value.shape == mapping && !f.value.isReference() && !out.fields[i].value.isReference():
			out.fields[i].value = merge(out.fields[i].value, f.value)
		default:
			out.fields[i] = f
		}
	}
	return out
}

// isReference reports whether n stands for a value that is elsewhere: {env: …} or {file: …}.
func (n *node) isReference() bool {
	return n.shape == mapping && len(n.fields) > 0 &&
		!slices.ContainsFunc(n.fields, func(f field) bool { return f.name != "env" && f.name != "file" })
}

// environmentsOf returns the names in the order of the file.
func environmentsOf(root *node) []string {
	all := root.get(environmentsKey)
	if all == nil {
		return nil
	}
	names := make([]string, 0, len(all.fields))
	for _, f := range all.fields {
		names = append(names, f.name)
	}
	return names
}
