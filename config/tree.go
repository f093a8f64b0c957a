package config

import (
	"bytes"
	"errors"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/poolkeeper/poolkeeper/internal/guard"
)

// Limits of a file. The parser is recursive: they bound its stack.
const (
	maxFile  = 256 << 10
	maxLine  = 4096
	maxDepth = 32 // of brackets, and of mappings and lists
	maxName  = 100
)

// shape is what a node is.
type shape uint8

const (
	null shape = iota
	scalar
	mapping
	list
)

// node is a value of the file. A tree of nodes has no anchors and no aliases: its size is the
// file's.
type node struct {
	at     position
	path   string // such as "redis.cache.max_open"
	shape  shape
	text   string  // of a scalar, as written
	fields []field // of a mapping, in the order of the file; no name occurs twice
	items  []*node // of a list
}

// field is one key of a mapping.
type field struct {
	name  string
	at    position
	value *node
}

// get returns the value of a key, nil if there is none.
func (n *node) get(name string) *node {
	if n == nil {
		return nil
	}
	for _, f := range n.fields {
		if f.name == name {
			return f.value
		}
	}
	return nil
}

// parse returns the tree of a file, or nil if its syntax is wrong, which is then among the faults.
func parse(text []byte, into *faults) *node {
	text = bytes.TrimPrefix(text, []byte("\ufeff")) // a byte order mark, which some editors write
	if !boundedText(text, into) || !isUTF8(text, into) {
		return nil
	}
	var file *ast.File
	var err error
	if died := guard.Call(func() { file, err = parser.ParseBytes(text, 0, parser.AllowDuplicateMapKey()) }); died != nil {
		into.add(position{}, "the YAML parser gives up on it; look for unusual syntax")
		return nil
	}
	if err != nil {
		syntaxFault(err, into)
		return nil
	}
	c := converter{into}
	var root *node
	for _, doc := range file.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.CommentType {
			continue
		}
		if doc.Body.Type() == ast.DirectiveType {
			into.add(placeOf(doc.Body), "directives such as %%YAML are not supported; leave the line out")
			return nil
		}
		if root != nil {
			into.add(placeOf(doc.Body), "a second document begins; the file may have one")
			return nil
		}
		root = c.convert(doc.Body, "", 0)
	}
	if root == nil {
		return &node{at: position{1, 1}, shape: mapping}
	}
	if root.shape != mapping {
		into.add(root.at, "the file must be a mapping of sections, such as redis and postgres")
		return nil
	}
	return root
}

// boundedText refuses what would make the parser work or recurse without bounds.
func boundedText(text []byte, into *faults) bool {
	if len(text) > maxFile {
		into.add(position{}, "it has %d bytes; at most %d are allowed", len(text), maxFile)
		return false
	}
	depth, number := 0, 0
	for line := range bytes.Lines(text) {
		number++
		if len(line) > maxLine {
			into.add(position{number, 1}, "the line has %d bytes; at most %d are allowed", len(line), maxLine)
			return false
		}
		if bytes.Count(line, []byte("- ")) > maxDepth {
			into.add(position{number, 1}, "the line nests more than %d lists", maxDepth)
			return false
		}
		for column, b := range line {
			switch b {
			case '[', '{':
				depth++
			case ']', '}':
				depth = max(depth-1, 0)
			}
			if depth > maxDepth {
				into.add(position{number, column + 1}, "brackets are nested deeper than %d", maxDepth)
				return false
			}
		}
	}
	return true
}

func isUTF8(text []byte, into *faults) bool {
	number := 0
	for line := range bytes.Lines(text) {
		number++
		if !utf8.Valid(line) {
			into.add(position{number, 1}, "the line is not UTF-8; save the file in that encoding")
			return false
		}
	}
	return true
}

// syntaxFault adds what the parser says. Its message may quote the file, so quotations are left
// out.
func syntaxFault(err error, into *faults) {
	var at position
	text := "the YAML syntax is wrong"
	var known interface {
		GetToken() *token.Token
		GetMessage() string
	}
	if errors.As(err, &known) {
		at = place(known.GetToken())
		said, _, _ := strings.Cut(known.GetMessage(), "\n")
		said, _, _ = strings.Cut(said, `"`)
		said, _, _ = strings.Cut(said, "'")
		said, _, _ = strings.Cut(said, "`")
		if said = strings.TrimRight(strings.TrimSpace(said), ":"); said != "" {
			text += ": " + said
		}
	}
	into.add(at, "%s", text)
}

func place(t *token.Token) position {
	if t == nil || t.Position == nil {
		return position{}
	}
	return position{max(t.Position.Line, 1), max(t.Position.Column, 1)}
}

func placeOf(n ast.Node) position {
	if v, ok := n.(*ast.MappingValueNode); ok { // its own token is the colon
		return place(v.Key.GetToken())
	}
	if m, ok := n.(*ast.MappingNode); ok && !m.IsFlowStyle && len(m.Values) > 0 {
		return placeOf(m.Values[0])
	}
	return place(n.GetToken())
}

// converter makes nodes of the parser's.
type converter struct{ *faults }

func (c converter) convert(from ast.Node, path string, depth int) *node {
	out := &node{path: path}
	if from == nil {
		return out
	}
	out.at = placeOf(from)
	if depth > maxDepth {
		c.add(out.at, "it is nested deeper than %d", maxDepth)
		return out
	}
	switch v := from.(type) {
	case *ast.NullNode:
	case *ast.MappingNode:
		out.shape = mapping
		c.pairs(out, v.Values, depth)
	case *ast.MappingValueNode:
		out.shape = mapping
		c.pairs(out, []*ast.MappingValueNode{v}, depth)
	case *ast.SequenceNode:
		out.shape = list
		for _, item := range v.Values {
			out.items = append(out.items, c.convert(item, path, depth+1))
		}
	case *ast.LiteralNode:
		out.shape = scalar
		if v.Value != nil {
			out.text = strings.TrimSpace(v.Value.Value)
		}
	case *ast.StringNode:
		out.shape, out.text = scalar, v.Value
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		out.shape, out.text = scalar, from.GetToken().Value
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode, *ast.TagNode:
		c.add(out.at, "anchors, aliases, merge keys and tags are not supported; write the value here, or use environments")
	default:
		c.add(out.at, "this part of YAML is not supported")
	}
	return out
}

func (c converter) pairs(out *node, pairs []*ast.MappingValueNode, depth int) {
	seen := map[string]position{}
	for _, p := range pairs {
		at := place(p.Key.GetToken())
		name, ok := keyText(p.Key)
		first, twice := seen[name]
		switch {
		case !ok:
			c.add(at, "a key must be a plain word; anchors, aliases, merge keys and tags are not supported")
			continue
		case shown(name) != name:
			c.add(at, "the key has characters that no key has, or more than %d; letters, digits and . _ / - are allowed", maxName)
			continue
		case twice:
			c.add(at, "%s is given twice, first in line %d", below(out.path, name), first.line)
			continue
		}
		seen[name] = at
		value := c.convert(p.Value, below(out.path, name), depth+1)
		if value.at == (position{}) || value.shape == null {
			value.at = at
		}
		out.fields = append(out.fields, field{name, at, value})
	}
}

func keyText(k ast.MapKeyNode) (string, bool) {
	switch v := k.(type) {
	case *ast.StringNode:
		return v.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode:
		return k.GetToken().Value, true
	default:
		return "", false
	}
}

// plainName is what keys and names look like. Others are not shown: they may be a value out of
// place.
var plainName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_./-]*$`)

// shown returns a key as faults may show it.
func shown(name string) string {
	if len(name) > maxName || !plainName.MatchString(name) {
		return "…"
	}
	return name
}

func below(path, name string) string {
	if path == "" {
		return shown(name)
	}
	return path + "." + shown(name)
}
