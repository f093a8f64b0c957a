package health

import (
	"fmt"
	"slices"
)

// view is what one request that is not the usual one wants to see.
type view struct {
	group    *groupPage
	only     string // name of the single check asked for; empty: the group
	verbose  bool
	exclude  []string
	detailed bool // the asker may see more than the status, and has reason to

	status   Status
	warnings []string
}

// resolve works out the status. It returns false if the check asked for is not there.
func (v *view) resolve() bool {
	if v.only != "" {
		it, ok := v.group.item(v.only)
		v.status = it.status
		return ok
	}
	v.status = v.group.status
	if len(v.exclude) == 0 {
		return true
	}
	slices.Sort(v.exclude)
	v.exclude = slices.Compact(v.exclude)
	for _, name := range v.exclude {
		if _, ok := v.group.item(name); !ok {
			v.warnings = append(v.warnings, fmt.Sprintf("cannot exclude %q: no such check", cut(name, maxNameLen)))
		}
	}
	v.status = v.group.judge(v.excluded)
	return true
}

func (v *view) excluded(name string) bool {
	_, found := slices.BinarySearch(v.exclude, name)
	return found
}

// page writes the view. The whole list is rendered once for each snapshot and then kept.
func (v *view) page(f format) []byte {
	if !v.detailed || v.only != "" || len(v.exclude) > 0 {
		return v.render(f)
	}
	kept := &v.group.detailed[f]
	if p := kept.Load(); p != nil {
		return *p
	}
	p := v.render(f)
	kept.Store(&p)
	return p
}

func (v *view) render(f format) []byte {
	if f == plain {
		return v.text()
	}
	return v.json()
}

// items are the checks to list.
func (v *view) items() []item {
	if v.only != "" {
		it, _ := v.group.item(v.only)
		return []item{it}
	}
	all := v.group.items()
	return slices.DeleteFunc(all, func(it item) bool { return v.excluded(it.name) })
}

func cut(s string, n int) string {
	if len(s) > n {
		return s[:n] + "…"
	}
	return s
}

// reason and advice are those of the root cause.
func (v *view) reason() string { return v.group.reason(v.excluded) }

func (v *view) advice() string {
	if v.group.obstacle() != "" || v.status == StatusPass {
		return ""
	}
	b, ok := v.group.blame(v.excluded)
	if !ok {
		return ""
	}
	return b.root.verdict.fault.Advice
}

// holds are those that keep this group from passing.
func (v *view) holds() []*hold {
	if v.only != "" || v.group.name == GroupLive || v.status.OK() {
		return nil
	}
	return v.group.snap.holds
}
