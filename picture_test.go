package poolkeeper_test

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The picture in docs/architecture.md shows every public package, on the floor that the rules of
// TestImportsGoDownOnly give it, and nothing that is not there.
func TestThePictureOfTheFloorsIsThatOfTheFolders(t *testing.T) {
	drawn := drawnFloors(t)
	for pkg := range drawn {
		if _, err := os.Stat(pkg); err != nil {
			t.Errorf("the picture shows %s, which is no folder", pkg)
		}
	}
	for _, pkg := range packages(t) {
		if pkg == "." || inner(pkg) || strings.HasPrefix(pkg, "examples/") || strings.HasSuffix(pkg, "test") {
			continue
		}
		floor, ok := drawn[pkg]
		if !ok {
			t.Errorf("the picture does not show %s", pkg)
			continue
		}
		if own, err := os.Stat(filepath.Join(pkg, "go.mod")); err == nil && own != nil {
			continue // a module of its own: depguard and go.mod hold its floor
		}
		if want := floors[room(module+"/"+pkg)]; floor != want {
			t.Errorf("the picture shows %s on floor %d, want %d", pkg, floor, want)
		}
	}
	for pkg := range maps.Keys(floors) {
		if _, err := os.Stat(filepath.Join(".", pkg)); err != nil {
			t.Errorf("a floor is planned for %s, which is no folder", pkg)
		}
	}
}

// Every package of the house has a row that says what it is responsible for.
func TestEveryInnerPackageHasARow(t *testing.T) {
	text := architecture(t)
	for _, pkg := range packages(t) {
		if inner(pkg) && !strings.Contains(pkg, "internal/test/") && !strings.Contains(text, "`"+pkg+"`") {
			t.Errorf("docs/architecture.md does not say what %s is responsible for", pkg)
		}
	}
}

func architecture(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// drawnFloors reads the floor of each package from the picture.
func drawnFloors(t *testing.T) map[string]int {
	t.Helper()
	_, picture, ok := strings.Cut(architecture(t), "```mermaid\n")
	picture, _, end := strings.Cut(picture, "```")
	if !ok || !end {
		t.Fatal("docs/architecture.md begins with no picture")
	}
	node := regexp.MustCompile(`^(\w+)(?:\["(.*)"\])?$`)
	drawn, floor := map[string]int{}, -1
	for line := range strings.Lines(picture) {
		line = strings.TrimSpace(line)
		if rest, ok := strings.CutPrefix(line, "subgraph F"); ok {
			digits, _, _ := strings.Cut(rest, "[")
			n, err := strconv.Atoi(digits)
			if err != nil {
				t.Fatal(err)
			}
			floor = n
			continue
		}
		m := node.FindStringSubmatch(line)
		if m == nil || line == "end" {
			continue
		}
		label := m[2]
		if label == "" {
			label = m[1]
		}
		for part := range strings.SplitSeq(label, "<br/>") {
			if path := strings.TrimSpace(part); !strings.ContainsAny(path, " ,*:") && path != "go-redis" {
				drawn[path] = floor
			}
		}
	}
	return drawn
}

// inner reports whether no importer sees a package.
func inner(pkg string) bool { return slices.Contains(strings.Split(pkg, "/"), "internal") }

// packages lists the folders with Go code of the library, its nested modules included.
func packages(t *testing.T) []string {
	t.Helper()
	seen := map[string]bool{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			if name := d.Name(); name == "testdata" || name == "bench" || name == "integration" || name == "faults" || name == "tools" || name == "docs" ||
				name != "." && strings.HasPrefix(name, ".") {
				return fs.SkipDir
			}
		case strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go"):
			seen[filepath.ToSlash(filepath.Dir(path))] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return slices.Sorted(maps.Keys(seen))
}
