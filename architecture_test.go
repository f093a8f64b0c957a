package poolkeeper_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/poolkeeper/poolkeeper"

// floors are the house of docs/architecture.md, by room. Imports go down only: never up and never
// sideways.
var floors = map[string]int{
	"":           0, // the root package, below internal
	"internal":   0,
	"health":     1,
	"eviction":   1,
	"lifecycle":  2,
	poolTests:    2,
	"httpclient": 3,
	"redispool":  3,
	"sqlpool":    3,
	"statuspage": 3,
	measures:     3,
	replicas:     4,
}

// cellar is what the root package, whose errors need words, may import. It imports the standard
// library only.
var cellar = []string{"/internal/plural", "/internal/callsite"}

// Rooms of more than one path element.
const (
	replicas  = "sqlpool/replica"
	measures  = "internal/measure"
	poolTests = "internal/test/pooltest"
)

type listed struct {
	ImportPath                         string
	Standard                           bool
	Imports, TestImports, XTestImports []string
}

func TestImportsGoDownOnly(t *testing.T) {
	for _, p := range list(t, "./...") {
		for _, imported := range p.Imports {
			if fault := forbidden(p.ImportPath, imported); fault != "" {
				t.Errorf("%s imports %s: %s", p.ImportPath, imported, fault)
			}
		}
		// Tests may look up (they assert that pools satisfy lifecycle's interfaces), but not
		// across.
		from := room(p.ImportPath)
		for _, imported := range slices.Concat(p.TestImports, p.XTestImports) {
			if to := room(imported); strangers(from, to) {
				t.Errorf("a test of %s imports %s: sibling pools do not know each other", p.ImportPath, imported)
			}
		}
	}
}

func TestForbiddenKnowsUpSidewaysAndUnknown(t *testing.T) {
	for _, c := range []struct {
		from, to string
		ok       bool
	}{
		{"/lifecycle", "/health", true},
		{"/lifecycle/lifecycletest", "/lifecycle", true},
		{"/sqlpool", "/eviction", true},
		{"/internal/holders", "", true},
		{"/internal/holders", "/internal/inflight", true},
		{"", "/internal/holders", false},
		{"", "/internal/plural", true},
		{"/health", "/eviction", false},
		{"/health", "/lifecycle", false},
		{"/redispool", "/sqlpool", false},
		{"/redispool", "/lifecycle", false},
		{"/sqlpool/replica", "/sqlpool", true},
		{"/sqlpool/replica", "/sqlpool/internal/probe", true},
		{"/sqlpool/replica", "/redispool", false},
		{"/sqlpool/replica", "/lifecycle", false},
		{"/sqlpool/sqlpooltest", "/sqlpool/replica", false},
		{"/statuspage", "/lifecycle", true},
		{"/statuspage", "/lifecycle/event", true},
		{"/statuspage", "/redispool", false},
		{"/redispool", "/statuspage", false},
		{"/internal/measure", "/lifecycle", true},
		{"/internal/measure", "/internal/guard", true},
		{"/internal/measure", "/sqlpool", false},
		{"/sqlpool", "/internal/measure", false},
		{"/lifecycle", "/internal/measure", false},
		{"/internal/guard", "/internal/measure", false},
		{"/attic", "/health", false},
		{"/redispool", "/internal/test/testkit", false},
		{"/redispool", "/internal/test/paired", false},
		{"/redispool", "/internal/test/pooltest", false},
		{"/internal/test/pooltest", "/health", true},
		{"/internal/test/testkit", "/health", false},
		{"/internal/test/testserver", "/internal/test/testkit", true},
		{"/sqlpool/internal/test/sqltest", "/internal/test/testkit", true},
		{"/sqlpool", "/sqlpool/internal/test/sqltest", false},
	} {
		if got := forbidden(module+c.from, module+c.to); (got == "") != c.ok {
			t.Errorf("import of %q by %q: fault %q, want allowed = %v", c.to, c.from, got, c.ok)
		}
	}
}

func TestLowerFloorsCompileOnlyTheStandardLibrary(t *testing.T) {
	for _, p := range list(t, "-deps", "./lifecycle/...", "./health", "./health/quality", "./eviction", "./statuspage") {
		if !p.Standard && room(p.ImportPath) == outside {
			t.Errorf("an importer of lifecycle, health, eviction or statuspage compiles %s", p.ImportPath)
		}
	}
}

// forbidden says why from must not import to, or "".
func forbidden(from, to string) string {
	a, b := room(from), room(to)
	if b == outside {
		return ""
	}
	fa, knowA := floors[a]
	fb, knowB := floors[b]
	switch {
	case forTests(to) && !forTests(from):
		return "it is for tests only"
	case !knowA || !knowB:
		return "a package on no floor: add it to docs/architecture.md and to this test"
	case pool(a) && b == "lifecycle":
		return "pools satisfy lifecycle's interfaces structurally"
	case strangers(a, b):
		return "sibling pools do not know each other"
	case a == b, a == "internal" && b == "":
		return ""
	case a == "" && slices.Contains(cellar, strings.TrimPrefix(to, module)):
		return ""
	case fb < fa:
		return ""
	case fb == fa:
		return "sideways"
	default:
		return "up"
	}
}

const outside = "(outside)"

// room returns the first path element of one of our packages, "" for the root, replicas for what is
// built on a pool, measures for what reads a registry into numbers, poolTests for what checks a pool,
// outside for everything else.
func room(path string) string {
	if path == module {
		return ""
	}
	rest, ours := strings.CutPrefix(path, module+"/")
	if !ours {
		return outside
	}
	for _, longer := range []string{replicas, measures, poolTests} {
		if rest == longer || strings.HasPrefix(rest, longer+"/") {
			return longer
		}
	}
	first, _, _ := strings.Cut(rest, "/")
	return first
}

// forTests reports whether nothing but tests may import a package.
func forTests(path string) bool {
	return strings.HasPrefix(path, module+"/") && strings.Contains(path, "/internal/test/")
}

func pool(room string) bool {
	return room == "redispool" || room == "httpclient" || room == "sqlpool" || room == replicas
}

// strangers reports whether two rooms are pools of different kinds of servers.
func strangers(a, b string) bool {
	return pool(a) && pool(b) && (a == "redispool") != (b == "redispool")
}

func list(t *testing.T, args ...string) []listed {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list", "-json=ImportPath,Standard,Imports,TestImports,XTestImports"}, args...)...)
	out, err := cmd.Output()
	if err != nil {
		if ee, ok := errors.AsType[*exec.ExitError](err); ok {
			t.Fatalf("%v: %v\n%s", cmd, err, ee.Stderr)
		}
		t.Fatal(err)
	}
	var all []listed
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) == 0 {
		t.Fatal("go list found no package")
	}
	return all
}
