package poolkeeper_test

import (
	"bytes"
	"flag"
	"go/ast"
	"go/parser"
	"go/printer"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/api anew")

// budgets bound how many names a stranger has to learn: exported constants, variables, types,
// functions and methods. The methods that every SQL pool has count once for each of its types: told
// once, sqlpool has 76 names and replica 59.
var budgets = map[string]int{
	".": 80, "lifecycle": 122, "lifecycle/event": 70, "health": 85, "health/quality": 15, "eviction": 26,
	"httpclient": 80, "config": 35, "redispool": 63, "sqlpool": 130, "sqlpool/replica": 84,
	"statuspage": 45,
}

func TestExportedNamesStayWithinTheirBudgets(t *testing.T) {
	for dir, most := range budgets {
		if n := len(exported(t, dir).names); n > most {
			t.Errorf("%s exports %d names, more than its budget of %d", dir, n, most)
		} else {
			t.Logf("%s: %d of %d", dir, n, most)
		}
	}
}

// The files in docs/api are the baseline of the exported API. A change of it shows in a review.
func TestExportedAPIIsTheCommittedBaseline(t *testing.T) {
	for dir := range budgets {
		name := strings.ReplaceAll(dir, "/", "-")
		if dir == "." {
			name = "poolkeeper"
		}
		file := filepath.Join("docs", "api", name+".txt")
		got := strings.Join(exported(t, dir).lines, "\n") + "\n"
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("the API of %s is not that of %s; if the change is meant: make api\n%s", dir, file, missing(string(want), got))
		}
	}
}

// missing says which lines one text has and the other has not.
func missing(before, after string) string {
	old, now := strings.Split(before, "\n"), strings.Split(after, "\n")
	var out []string
	for _, l := range old {
		if !slices.Contains(now, l) {
			out = append(out, "- "+l)
		}
	}
	for _, l := range now {
		if !slices.Contains(old, l) {
			out = append(out, "+ "+l)
		}
	}
	return strings.Join(out, "\n")
}

// api is what a package exports.
type api struct {
	names []string // constants, variables, types, functions and methods
	lines []string // the same with signatures, and the fields of structs

	fset     *token.FileSet
	methods  map[string][]*ast.FuncDecl // of each type, exported or not
	embedded map[string][]string        // unexported types embedded in each struct
}

func exported(t *testing.T, dir string) *api {
	t.Helper()
	a := &api{fset: token.NewFileSet(), methods: map[string][]*ast.FuncDecl{}, embedded: map[string][]string{}}
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(a.fset, f, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			a.add(d)
		}
	}
	if len(a.names) == 0 {
		t.Fatalf("%s exports nothing", dir)
	}
	for _, of := range slices.Clone(a.names) {
		for _, m := range a.promoted(of) {
			a.list(of+"."+m.Name.Name, "method ("+of+") "+m.Name.Name+strings.TrimPrefix(a.text(m.Type), "func"))
		}
	}
	slices.Sort(a.names)
	slices.Sort(a.lines)
	return a
}

func (a *api) list(name, line string) {
	a.names = append(a.names, name)
	a.lines = append(a.lines, line)
}

func (a *api) add(d ast.Decl) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		switch {
		case !d.Name.IsExported():
		case d.Recv == nil:
			a.list(d.Name.Name, "func "+d.Name.Name+strings.TrimPrefix(a.text(d.Type), "func"))
		default:
			of := typeName(d.Recv.List[0].Type)
			a.methods[of] = append(a.methods[of], d)
		}
	case *ast.GenDecl:
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.ValueSpec:
				for _, n := range s.Names {
					if n.IsExported() {
						a.list(n.Name, d.Tok.String()+" "+n.Name)
					}
				}
			case *ast.TypeSpec:
				a.addType(s)
			}
		}
	}
}

func (a *api) addType(s *ast.TypeSpec) {
	st, isStruct := s.Type.(*ast.StructType)
	if isStruct {
		for _, f := range st.Fields.List {
			if name := typeName(f.Type); len(f.Names) == 0 && !ast.IsExported(name) {
				a.embedded[s.Name.Name] = append(a.embedded[s.Name.Name], name)
			}
		}
	}
	switch {
	case !s.Name.IsExported():
	case !isStruct:
		a.list(s.Name.Name, "type "+s.Name.Name+" "+a.text(s.Type))
	default:
		a.list(s.Name.Name, "type "+s.Name.Name+" struct")
		for _, f := range st.Fields.List {
			for _, n := range f.Names {
				if n.IsExported() {
					a.lines = append(a.lines, "type "+s.Name.Name+" struct, "+n.Name+" "+a.text(f.Type))
				}
			}
		}
	}
}

// promoted returns the exported methods of a type, those of unexported types embedded in it
// included.
func (a *api) promoted(of string) []*ast.FuncDecl {
	all := slices.Clone(a.methods[of])
	for _, e := range a.embedded[of] {
		for _, m := range a.promoted(e) {
			if !slices.ContainsFunc(all, func(own *ast.FuncDecl) bool { return own.Name.Name == m.Name.Name }) {
				all = append(all, m)
			}
		}
	}
	return all
}

func (a *api) text(node any) string {
	var b bytes.Buffer
	if err := printer.Fprint(&b, a.fset, node); err != nil {
		return err.Error()
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

func typeName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return typeName(e.X)
	case *ast.IndexExpr:
		return typeName(e.X)
	case *ast.IndexListExpr:
		return typeName(e.X)
	case *ast.Ident:
		return e.Name
	default:
		return ""
	}
}
