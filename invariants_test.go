package poolkeeper_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestEveryInvariantIsCitedByATest reads docs/invariants.md and looks for each number in the tests,
// and the other way round: a test that cites an undocumented number proves nothing.
func TestEveryInvariantIsCitedByATest(t *testing.T) {
	doc, err := os.ReadFile("docs/invariants.md")
	if err != nil {
		t.Fatal(err)
	}
	written := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\| (INV-\d+) `).FindAllStringSubmatch(string(doc), -1) {
		written[m[1]] = true
	}
	if len(written) == 0 {
		t.Fatal("docs/invariants.md lists no invariant")
	}
	cited := map[string]bool{}
	number := regexp.MustCompile(`\bINV-\d+\b`)
	err = filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") || path == "invariants_test.go" {
			return err
		}
		src, err := os.ReadFile(path)
		for _, id := range number.FindAllString(string(src), -1) {
			cited[id] = true
			if !written[id] {
				t.Errorf("%s cites %s, which docs/invariants.md does not have", path, id)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for id := range written {
		if !cited[id] {
			t.Errorf("no test cites %s", id)
		}
	}
}
