package sqlpool_test

import (
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/poolkeeper/poolkeeper/sqlpool"
)

// different are the fields whose comments differ between the configurations, because their meaning
// does: the reason stands here. Their types are alike all the same.
var different = map[string]string{
	"Name":                   "the default is the kind of the pool",
	"URL":                    "what a URL may be is the driver's affair",
	"KeepAlive":              "the server's own time-out has another name on each; not every driver has Ping",
	"QueryTimeout":           "each handle has other ways around it",
	"DialTimeout":            "only PostgreSQL's URL names several hosts",
	"ReclaimAfter":           "sockets can be out of reach, and pgxpool keeps the place",
	"DisableResetOnReadOnly": "database/sql hides the later result sets",
	"CheckQuery":             "not every driver has Ping, and an adopted handle no connection of its own",
	"Configure":              "it is given the driver's own configuration",
	"Logger":                 "an adopted handle has less to say",
}

// otherTypes are the fields whose type differs too.
var otherTypes = map[string]bool{"Configure": true}

// configField is a field as its source has it.
type configField struct{ typ, comment string }

// Fields of the same name are alike in all configurations: in their types, and in their comments
// but for those in different.
func TestFieldsOfTheSameNameAreAlike(t *testing.T) {
	first := map[string]string{} // configuration that a field was seen in first
	all := configFields(t)
	if len(all) != 4 {
		t.Fatalf("%d configurations", len(all))
	}
	varies := map[string]bool{}
	for _, config := range []string{"PostgresConfig", "MySQLConfig", "DBConfig", "AdoptConfig"} {
		for name, f := range all[config] {
			if f.comment == "" || !strings.HasPrefix(f.comment, name+" ") {
				t.Errorf("the comment on %s.%s does not begin with its name: %q", config, name, f.comment)
			}
			if first[name] == "" {
				first[name] = config
				continue
			}
			other := all[first[name]][name]
			if f.typ != other.typ && !otherTypes[name] {
				t.Errorf("%s is %s in %s and %s in %s", name, f.typ, config, other.typ, first[name])
			}
			if f.comment != other.comment {
				varies[name] = true
				if different[name] == "" {
					t.Errorf("the comments on %s differ:\n%s: %s\n%s: %s", name, config, f.comment, first[name], other.comment)
				}
			}
		}
	}
	for name := range different {
		if !varies[name] {
			t.Errorf("the comments on %s do not differ", name)
		}
	}
}

// configFields reads the fields of the exported configurations from the source.
func configFields(t *testing.T) map[string]map[string]configField {
	t.Helper()
	files, err := filepath.Glob("config*.go")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]map[string]configField{}
	for _, name := range files {
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, name, src, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for node := range ast.Preorder(file) {
			spec, ok := node.(*ast.TypeSpec)
			if !ok || !strings.HasSuffix(spec.Name.Name, "Config") {
				continue
			}
			fields := map[string]configField{}
			config, ok := spec.Type.(*ast.StructType)
			if !ok {
				t.Fatalf("%s is no struct", spec.Name.Name)
			}
			for _, f := range config.Fields.List {
				var typ strings.Builder
				if err := format.Node(&typ, fset, f.Type); err != nil {
					t.Fatal(err)
				}
				fields[f.Names[0].Name] = configField{typ.String(), strings.Join(strings.Fields(f.Doc.Text()), " ")}
			}
			out[spec.Name.Name] = fields
		}
	}
	return out
}

// Every field of a configuration reaches the pool, under its own name.
func TestEveryFieldIsConverted(t *testing.T) {
	for _, config := range []any{sqlpool.PostgresConfig{}, sqlpool.MySQLConfig{}, sqlpool.DBConfig{}, sqlpool.AdoptConfig{}} {
		v := reflect.New(reflect.TypeOf(config)).Elem()
		for f, field := range v.Fields() {
			field.Set(something(f.Type))
			var set []string
			for g, into := range reflect.ValueOf(sqlpool.Converted(v.Interface())).Fields() {
				if !into.IsZero() {
					set = append(set, g.Name)
				}
			}
			if len(set) != 1 || set[0] != f.Name && f.Name+strings.TrimSuffix(v.Type().Name(), "Config") != set[0] {
				t.Errorf("%s.%s is converted to %v", v.Type(), f.Name, set)
			}
			field.SetZero()
		}
	}
}

// something is a value of a type that is not its zero.
func something(typ reflect.Type) reflect.Value {
	v := reflect.New(typ).Elem()
	switch typ.Kind() { //nolint:exhaustive // the kinds of the fields there are
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Float64:
		v.SetFloat(1)
	case reflect.Pointer:
		v.Set(reflect.New(typ.Elem()))
	case reflect.Func:
		v.Set(reflect.MakeFunc(typ, func([]reflect.Value) []reflect.Value { return nil }))
	case reflect.Struct:
		v.Field(0).Set(something(typ.Field(0).Type))
	default:
		v.SetInt(1)
	}
	return v
}
