package config

import (
	"crypto/sha256"
	"errors"
	"log/slog"
	"reflect"
	"slices"

	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/lifecycle"
)

// Keys of a connection that are not fields of its Config.
const (
	dependsKey = "depends_on"
	impactKey  = "impact"
)

// content is a file that was read.
type content struct {
	mark      fingerprint // of the file and of the files that it refers to, as they were read
	entries   []*entry
	servers   []namedServer
	lifecycle lifecycle.Config
	refs      []string // files that it refers to
}

// entry is a connection that the file declares.
type entry struct {
	name    string
	kind    *kind
	cfg     any // a value of kind.config
	depends []string
	impact  health.Impact
	node    *node
	comp    component // closed in a content that is not in effect
}

type namedServer struct {
	server

	name    string
	depends []string
}

// fingerprint tells one reading of a file, and of the files that it refers to, from another.
type fingerprint [sha256.Size]byte

// fingerprintOf returns the fingerprint of a file. held are the files that it refers to, nil for a
// file that cannot be read.
func fingerprintOf(text []byte, held [][]byte) fingerprint {
	h := sha256.New()
	h.Write(text)
	for _, each := range held {
		sum := sha256.Sum256(each)
		h.Write(sum[:])
		if each == nil {
			h.Write([]byte("?"))
		}
	}
	return fingerprint(h.Sum(nil))
}

// readAll reads the files that a file refers to, for its fingerprint.
func readAll(refs []string) [][]byte {
	held := make([][]byte, len(refs))
	for i, path := range refs {
		held[i], _ = readBounded(path, maxSecret) // nil says that it cannot be read
	}
	return held
}

// read reads a file and makes every component that it declares.
func read(path string, l loading) (*content, error) {
	text, err := readFile(path)
	if err != nil {
		return nil, err
	}
	c, err := decode(path, text, l)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// decode makes every component that the text of a file declares. With an error, the content has
// only its fingerprint and its references.
func decode(path string, text []byte, l loading) (*content, error) {
	d := &decoder{faults: &faults{file: path}, load: l}
	c := d.content(text)
	c.refs, c.mark = d.refs, fingerprintOf(text, d.held)
	if len(d.list) > 0 {
		return &content{refs: c.refs, mark: c.mark}, errors.Join(d.err(), c.abort())
	}
	return c, nil
}

// content reads the sections of a file.
func (d *decoder) content(text []byte) *content {
	c := &content{}
	root := parse(text, d.faults)
	if root == nil {
		return c
	}
	tree := overlay(root, d.load.environment, d.faults)
	all := kinds()
	d.unknownSections(tree, all)
	for _, k := range all {
		c.entries = append(c.entries, d.section(tree.get(k.section), k)...)
	}
	for _, n := range d.named(tree.get(serversKey)) {
		d.kind = nil
		c.servers = append(c.servers, namedServer{d.decodeServer(n.value), n.name, d.depends(n.value)})
	}
	c.lifecycle = d.decodeLifecycle(tree)
	d.twice(tree, all)
	return c
}

func (d *decoder) unknownSections(tree *node, all []*kind) {
	known := []string{serversKey, lifecycleKey, healthKey, environmentsKey}
	for _, k := range all {
		known = append(known, k.section)
	}
	for _, f := range tree.fields {
		if !slices.Contains(known, f.name) {
			d.add(f.at, "%s is not a section%s", f.name, suggestion(f.name, known))
		}
	}
}

// named returns the entries of a section.
func (d *decoder) named(n *node) []field {
	switch {
	case n == nil, n.shape == null:
		return nil
	case n.shape != mapping:
		d.add(n.at, "%s is a %s; it must be a mapping, from names to keys", n.path, n.shape)
		return nil
	}
	return n.fields
}

// twice reports names that occur in two sections: a registry has each name once.
func (d *decoder) twice(tree *node, all []*kind) {
	seen := map[string]string{}
	sections := []string{serversKey}
	for _, k := range all {
		sections = append(sections, k.section)
	}
	for _, s := range sections {
		n := tree.get(s)
		if n == nil || n.shape != mapping {
			continue
		}
		for _, f := range n.fields {
			if other := seen[f.name]; other != "" {
				d.add(f.at, "%s is also the name of %s; a registry has each name once", f.value.path, other)
			}
			seen[f.name] = f.value.path
		}
	}
}

// section reads the connections of one section.
func (d *decoder) section(n *node, k *kind) []*entry {
	var out []*entry
	d.kind = k
	for _, f := range d.named(n) {
		out = append(out, d.entry(f, k))
	}
	return out
}

func (d *decoder) entry(f field, k *kind) *entry {
	n := f.value
	before := len(d.list)
	e := &entry{name: f.name, kind: k, node: n, impact: k.impact}
	cfg := reflect.New(k.config).Elem()
	cfg.FieldByName("Name").SetString(f.name)
	d.fill(cfg, n, true, dependsKey, impactKey)
	e.depends = d.depends(n)
	d.impact(n, &e.impact)
	if log := d.load.logger; log != nil {
		setLoggers(cfg, reflect.ValueOf(log))
	}
	for _, adjust := range d.load.adjust {
		adjust(f.name, cfg)
	}
	e.cfg = cfg.Interface()
	err := k.validate(e.cfg)
	if err == nil && len(d.list) == before {
		e.comp, err = k.make(e.cfg)
	}
	d.refuse(n, k.config, k.pkg+": ", err)
	return e
}

// setLoggers sets every Logger of a configuration, those of the servers of a replicated pool too.
func setLoggers(cfg, log reflect.Value) {
	for i := range cfg.NumField() {
		switch f := cfg.Field(i); {
		case f.Type() == reflect.TypeFor[*slog.Logger]():
			f.Set(log)
		case f.Kind() == reflect.Struct:
			setLoggers(f, log)
		case f.Kind() == reflect.Slice && f.Type().Elem().Kind() == reflect.Struct:
			for j := range f.Len() {
				setLoggers(f.Index(j), log)
			}
		}
	}
}

// depends reads the names of the components that must be up first.
func (d *decoder) depends(n *node) []string {
	v := n.get(dependsKey)
	if v == nil || v.shape == null {
		return nil
	}
	if v.shape != list {
		d.add(v.at, "%s must be a list of names", v.path)
		return nil
	}
	var out []string
	for _, i := range v.items {
		if i.shape != scalar || i.text == "" {
			d.add(i.at, "%s must be a list of names", v.path)
			continue
		}
		out = append(out, i.text)
	}
	return out
}

// impact reads what a failed check does to readiness.
func (d *decoder) impact(n *node, into *health.Impact) {
	v := n.get(impactKey)
	if v == nil || v.shape == null {
		return
	}
	t := reflect.TypeFor[health.Impact]()
	k := key{name: impactKey, field: impactKey, form: formWord, words: wordsOf(t), typ: t}
	d.set(reflect.ValueOf(into).Elem(), &k, v)
}

// abort closes the components.
func (c *content) abort() error {
	var errs []error
	for _, e := range c.entries {
		if e.comp != nil {
			errs = append(errs, e.comp.Abort())
		}
	}
	return errors.Join(errs...)
}
