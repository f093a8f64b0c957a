package config

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/lifecycle"
)

// Change is one difference between two files.
type Change struct {
	Key      string // such as "redis.cache.max_open", or "redis.cache" if it comes or goes
	From, To string // "…" where the value is, or may hold, a secret; "" where there is none
	// Restart is why the change needs a restart. It is empty if Watch makes it while the service
	// runs.
	Restart string
}

// describe returns the key, with both values if there are any.
func (c Change) describe() string {
	if c.From == "" && c.To == "" {
		return c.Key
	}
	return fmt.Sprintf("%s: %s → %s", c.Key, cmp.Or(c.From, "none"), cmp.Or(c.To, "none"))
}

// Plan returns what would change if next took the place of f, in the order of the files. It changes
// nothing and dials nothing.
func (f *File) Plan(next *File) []Change {
	return planOf(f.content(), next.content()).all()
}

// plan is how one content differs from another.
type plan struct {
	live    []step   // connections that change while the service runs
	refused []Change // changes of such connections that need a restart
	restart []Change // everything else that needs a restart
	now     []Change // of the lifecycle, while the service runs
	next    *content
}

// step is the change of one connection.
type step struct {
	from    *entry // in effect
	to      any    // the configuration to come
	changes []Change
}

func (p *plan) all() []Change {
	var out []Change
	for _, s := range p.live {
		out = append(out, s.changes...)
	}
	return slices.Concat(out, p.refused, p.now, p.restart)
}

// planOf compares two contents. It asks each component of from which changes it can make.
func planOf(from, to *content) *plan {
	p := &plan{next: to}
	for _, e := range from.entries {
		i := slices.IndexFunc(to.entries, func(o *entry) bool { return o.name == e.name && o.kind.section == e.kind.section })
		if i < 0 {
			p.restart = append(p.restart, Change{Key: e.path(), From: "declared", Restart: "connections do not go while the service runs"})
			continue
		}
		p.entry(e, to.entries[i])
	}
	for _, e := range to.entries {
		if !slices.ContainsFunc(from.entries, func(o *entry) bool { return o.name == e.name && o.kind.section == e.kind.section }) {
			p.restart = append(p.restart, Change{Key: e.path(), To: "declared", Restart: "connections do not come while the service runs"})
		}
	}
	p.servers(from, to)
	p.registry(from.lifecycle, to.lifecycle)
	return p
}

func (e *entry) path() string { return e.kind.section + "." + e.name }

// entry plans the change of a connection.
func (p *plan) entry(from, to *entry) {
	const fixed = "it is fixed when the service starts"
	if !slices.Equal(from.depends, to.depends) {
		p.restart = append(p.restart, Change{from.path() + "." + dependsKey, strings.Join(from.depends, ", "), strings.Join(to.depends, ", "), fixed})
	}
	if from.impact != to.impact {
		p.restart = append(p.restart, Change{from.path() + "." + impactKey, from.impact.String(), to.impact.String(), fixed})
	}
	s := step{from: from, to: keepCode(from.cfg, to.cfg)}
	changes, err := from.kind.plan(from.comp, s.to)
	errs := split(err)
	keys := keysOf(from.kind.config, true)
	for _, c := range changes {
		own := Change{Key: from.path() + "." + keyPath(keys, c.Field), From: c.From, To: c.To}
		for i, e := range errs {
			if about := bareText(e, from.kind.pkg); strings.HasPrefix(about, c.Field+" ") {
				own.Restart = "the pool cannot change it while it lives"
				errs = slices.Delete(errs, i, i+1)
				break
			}
		}
		if own.Restart == "" {
			s.changes = append(s.changes, own)
		} else {
			p.refused = append(p.refused, own)
		}
	}
	for _, e := range errs {
		p.refused = append(p.refused, Change{Key: from.path(), Restart: bareText(e, from.kind.pkg)})
	}
	if len(s.changes) > 0 {
		p.live = append(p.live, s)
	}
}

// bareText is an error of Plan without the words that each of them begins with.
func bareText(err error, pkg string) string {
	text := strings.TrimPrefix(err.Error(), pkg+": ")
	if rest, ok := strings.CutPrefix(text, "plan for "); ok {
		if _, after, found := strings.Cut(rest, `": `); found {
			text = after
		}
	}
	return strings.TrimPrefix(text, pkg+": ")
}

// keyPath returns the key of a field as Plan names it: "MaxOpen", "TLSFiles", "replica-1.MaxOpen".
func keyPath(keys []key, field string) string {
	if k := slices.IndexFunc(keys, func(k key) bool { return k.field == field }); k >= 0 {
		return keys[k].name
	}
	if member, of, ok := strings.Cut(field, "."); ok {
		return member + "." + keyName(of)
	}
	return keyName(field)
}

// keepCode returns to with the functions and pointers of from: a file cannot change them, and code
// that sets them anew at each reading makes others of the same meaning.
func keepCode(from, to any) any {
	v := reflect.New(reflect.TypeOf(to)).Elem()
	v.Set(reflect.ValueOf(to))
	copyCode(v, reflect.ValueOf(from))
	return v.Interface()
}

func copyCode(to, from reflect.Value) {
	for _, k := range keysOf(to.Type(), false) {
		x, y := to.FieldByIndex(k.index), from.FieldByIndex(k.index)
		switch k.form {
		case inCode:
			x.Set(y)
		case formSection:
			copyCode(x, y)
		case formSections:
			own := reflect.MakeSlice(x.Type(), x.Len(), x.Len())
			reflect.Copy(own, x)
			for i := range min(x.Len(), y.Len()) {
				copyCode(own.Index(i), y.Index(i))
			}
			x.Set(own)
		case formText, formTexts, formFlag, formWhole, formWaiting, formPart, formRatio, formDuration, formMayBeOff, formWord:
		}
	}
}

// servers plans the changes of servers, which all need a restart.
func (p *plan) servers(from, to *content) {
	const fixed = "a server is fixed when the service starts"
	byName := func(c *content, name string) *namedServer {
		for i := range c.servers {
			if c.servers[i].name == name {
				return &c.servers[i]
			}
		}
		return nil
	}
	for _, s := range from.servers {
		o := byName(to, s.name)
		switch {
		case o == nil:
			p.restart = append(p.restart, Change{Key: serversKey + "." + s.name, From: "declared", Restart: fixed})
		case o.server != s.server || !slices.Equal(o.depends, s.depends):
			p.restart = append(p.restart, Change{Key: serversKey + "." + s.name, From: s.describe(), To: o.describe(), Restart: fixed})
		}
	}
	for _, s := range to.servers {
		if byName(from, s.name) == nil {
			p.restart = append(p.restart, Change{Key: serversKey + "." + s.name, To: "declared", Restart: fixed})
		}
	}
}

// describe returns what is set of a server.
func (s *namedServer) describe() string {
	var parts []string
	v := reflect.ValueOf(s.server)
	for _, k := range keysOf(v.Type(), true) {
		if f := v.FieldByIndex(k.index); !f.IsZero() {
			parts = append(parts, fmt.Sprintf("%s %v", k.name, f.Interface()))
		}
	}
	if len(s.depends) > 0 {
		parts = append(parts, dependsKey+" "+strings.Join(s.depends, " "))
	}
	return strings.Join(parts, ", ")
}

// registry plans the changes of the sections lifecycle and health.
func (p *plan) registry(from, to lifecycle.Config) {
	now, restart, err := lifecycle.New(from).Plan(to)
	if err != nil {
		p.refused = append(p.refused, Change{Key: lifecycleKey, Restart: err.Error()})
		return
	}
	change := func(c poolkeeper.Change) Change {
		section := lifecycleKey
		field, ofHealth := strings.CutPrefix(c.Field, "Health.")
		if ofHealth {
			section = healthKey
		}
		own := Change{Key: section + "." + keyName(field), From: c.From, To: c.To}
		for _, text := range []*string{&own.From, &own.To} {
			if *text == "0s" || *text == "0" {
				*text = "default"
			}
		}
		return own
	}
	for _, c := range now {
		p.now = append(p.now, change(c))
	}
	for _, c := range restart {
		own := change(c)
		own.Restart = "it is fixed when the service starts"
		p.restart = append(p.restart, own)
	}
}
