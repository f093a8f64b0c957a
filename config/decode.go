package config

import (
	"reflect"
	"slices"
	"strings"

	"github.com/poolkeeper/poolkeeper/internal/env"
)

// decoder turns nodes into configurations.
type decoder struct {
	*faults

	load loading
	kind *kind    // of the connection that is being read; nil: it is none
	refs []string // the files that values were read from
	held [][]byte // their contents, nil for a file that cannot be read
}

// fill sets the fields of v that n has keys for. It skips the keys extra, which are not fields: the
// caller reads them.
func (d *decoder) fill(v reflect.Value, n *node, named bool, extra ...string) {
	if n.shape == null {
		return
	}
	if n.shape != mapping {
		d.add(n.at, "%s is a %s; it must be a mapping of keys", n.path, n.shape)
		return
	}
	keys := keysOf(v.Type(), named)
	for _, f := range n.fields {
		if slices.Contains(extra, f.name) {
			continue
		}
		k := find(keys, f.name)
		switch {
		case k == nil && named && f.name == "name":
			d.add(f.at, "%s is not a key; the name is %s", f.value.path, lastWord(n.path))
		case k == nil:
			d.add(f.at, "%s is not a key%s", f.value.path, suggestion(f.name, append(settable(keys), extra...)))
		case k.form == inCode:
			d.add(f.at, "%s cannot be set in a file; set it in code, with config.With", f.value.path)
		default:
			d.set(v.FieldByIndex(k.index), k, f.value)
		}
	}
}

func find(keys []key, name string) *key {
	for i := range keys {
		if keys[i].name == name {
			return &keys[i]
		}
	}
	return nil
}

// settable returns the names of the keys that a file can set.
func settable(keys []key) []string {
	var out []string
	for _, k := range keys {
		if k.form != inCode {
			out = append(out, k.name)
		}
	}
	return out
}

func lastWord(path string) string { return path[strings.LastIndex(path, ".")+1:] }

// set sets one field.
func (d *decoder) set(v reflect.Value, k *key, n *node) {
	switch k.form {
	case formSection:
		d.fill(v, n, true)
		return
	case formSections:
		d.fillList(v, k, n)
		return
	case formTexts:
		if n.shape == list {
			d.fillTexts(v, k, n)
			return
		}
	case inCode, formText, formFlag, formWhole, formWaiting, formPart, formRatio, formDuration, formMayBeOff, formWord:
	}
	text, ok := d.resolve(n, k)
	switch {
	case ok:
	case n.shape != null && d.kind != nil && strings.HasSuffix(k.field, "URL"):
		text = d.kind.offline // a URL that was refused, or not read, is no second fault
	default:
		return
	}
	if d.load.offline && (strings.HasPrefix(k.field, "TLSFiles.") || k.field == "CredentialsFile") {
		return // it is not on this machine
	}
	r := env.NewSource("config", func(string) (name, value string) { return n.path, text })
	if k.form == formWord {
		var chosen int64
		env.Choose(r, k.field, &chosen, k.words...)
		if v.CanInt() {
			v.SetInt(chosen)
		} else {
			v.SetUint(uint64(chosen)) //nolint:gosec // an index of a few words
		}
	} else {
		r.Field(k.field, v.Addr().Interface(), k.form == formMayBeOff)
	}
	for _, err := range split(r.Err(nil)) {
		d.add(n.at, "%s", strings.TrimPrefix(err.Error(), "config: "))
	}
}

// fillList sets a slice of structs, whose field Name is a key.
func (d *decoder) fillList(v reflect.Value, k *key, n *node) {
	switch n.shape {
	case null:
	case list:
		out := reflect.MakeSlice(k.typ, len(n.items), len(n.items))
		for i, item := range n.items {
			d.fill(out.Index(i), item, false)
		}
		v.Set(out)
	case scalar, mapping:
		d.add(n.at, "%s is a %s; it must be a list", n.path, n.shape)
	}
}

// fillTexts sets a slice of strings from a list.
func (d *decoder) fillTexts(v reflect.Value, k *key, n *node) {
	one := *k
	one.form = formText
	var out []string
	for _, item := range n.items {
		if text, ok := d.resolve(item, &one); ok {
			out = append(out, text)
		}
	}
	v.Set(reflect.ValueOf(out))
}

// split returns the errors that err joins, or err itself.
func split(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if inner, wraps := err.(interface{ Unwrap() error }); wraps && !ok {
		if joined, ok = inner.Unwrap().(interface{ Unwrap() []error }); ok && len(joined.Unwrap()) < 2 {
			return []error{err}
		}
	}
	if !ok {
		return []error{err}
	}
	var out []error
	for _, e := range joined.Unwrap() {
		out = append(out, split(e)...)
	}
	return out
}

// refuse adds the faults that a package has found in a configuration. Each is placed at the key that
// it names, or at the section.
func (d *decoder) refuse(n *node, t reflect.Type, pkg string, err error) {
	keys := keysOf(t, true)
	for _, each := range split(err) {
		text := strings.TrimPrefix(each.Error(), pkg)
		if rest, ok := strings.CutPrefix(text, "new "); ok {
			if _, after, found := strings.Cut(rest, `": `); found {
				text = after
			}
		}
		at, said := n.at, n.path+": "+text
		if k, rest := speaksOf(keys, text); k != nil {
			said = n.path + "." + k.name + rest
			if own := n.get(k.name); own != nil {
				at = own.at
			}
		}
		d.wrap(at, each, said)
	}
}

// speaksOf returns the key of the field that a text begins with, and the rest of the text.
func speaksOf(keys []key, text string) (*key, string) {
	var best *key
	for i := range keys {
		f := keys[i].field
		rest, ok := strings.CutPrefix(text, f)
		if ok && (rest == "" || rest[0] == ' ' || rest[0] == ':' || rest[0] == '[') && (best == nil || len(f) > len(best.field)) {
			best = &keys[i]
		}
	}
	if best == nil {
		return nil, text
	}
	return best, text[len(best.field):]
}
